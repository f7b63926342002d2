'use strict'
/* The rows, and which of them are shown in which order. Nothing here touches the page. */

const page = JSON.parse(document.getElementById('data').textContent)
const rows = page.rows
const LETTERS = 'abcdefghijklmnopqrstuvwxyz'
const hasTwoRuns = page.runs.length === 2

// %% what a row is
const isLabelled = row => row.truth !== undefined
const shareOfSaid = said => said?.said === undefined ? NaN : said.shares[said.said]
const shareOfTruth = (row, said) => said?.said === undefined || !isLabelled(row) ? NaN : said.shares[row.truth]
const leadOfTruth = (row, said) => said.said === row.truth ? said.margin : shareOfTruth(row, said) - shareOfSaid(said)

/** Args: said: what a run says of the row; undefined where it does not have it. */
function outcomeOf(row, said) {
  if (said?.said === undefined) return 'unscored'
  if (!isLabelled(row)) return 'unlabelled'
  return said.said === row.truth ? 'right' : 'wrong'
}

function comparisonOf(row) {
  const before = outcomeOf(row, row), after = outcomeOf(row, row.other)
  if (before === 'unscored' || after === 'unscored') return 'one_run'
  if (before === 'unlabelled') return row.said === row.other.said ? 'same' : 'differs'
  if (before === 'right') return after === 'right' ? 'both_right' : 'broken'
  return after === 'right' ? 'fixed' : 'both_wrong'
}

// %% filters by value: name -> value of a row, and the order in which values are listed (others follow as they come)
const FACETS = {
  compare: {valueOf: comparisonOf, order: ['fixed', 'broken', 'both_wrong', 'both_right', 'differs', 'same', 'one_run']},
  outcome: {valueOf: row => outcomeOf(row, row), order: ['wrong', 'right', 'unlabelled', 'unscored']},
  tag: {
    valueOf: row => row.tag ?? 'no_tag',
    order: ['label probably wrong', 'order-sensitive', 'misled by the picture', 'resolution-sensitive', 'ambiguous',
      'unreadable photograph'],
    last: 'no_tag',
  },
  decision: {
    valueOf: row => row.split === 'test' ? 'test' : decisions.get(row)?.word ?? 'undecided',
    order: ['undecided', 'fix', 'drop', 'keep'], last: 'test', always: true,
  },
  kind: {valueOf: row => row.kind, order: []},
  split: {valueOf: row => row.split, order: ['train', 'test']},
  fold: {valueOf: row => row.fold === undefined ? 'no_fold' : String(row.fold), order: [], last: 'no_fold'},
  source: {valueOf: row => row.source || row.split, order: [], last: 'test', isRaw: true},
}
const decisions = new Map() // row -> {word, choice}

/** Values of all rows as numbers, so that filtering compares small integers. */
class Facet {
  constructor(name, {valueOf, order, last, always, isRaw = false}) {
    Object.assign(this, {name, valueOf, isRaw})
    const found = new Set(rows.map(valueOf))
    const others = [...found].filter(value => !order.includes(value) && value !== last)
    this.values = [...order.filter(value => always || found.has(value)),
      ...others.sort(new Intl.Collator(undefined, {numeric: true}).compare), ...(last && found.has(last) ? [last] : [])]
    this.chosen = new Set()
    this.codes = Uint16Array.from(rows, row => this.values.indexOf(valueOf(row)))
  }

  get isUseful() { return this.values.length > (this.isRaw && this.values.includes('test') ? 2 : 1) }

  /** Which values pass, by their numbers. */
  passing() {
    return Uint8Array.from(this.values, value => this.chosen.size === 0 || this.chosen.has(value))
  }

  update(number) { this.codes[number] = this.values.indexOf(this.valueOf(rows[number])) }
}

const facets = Object.entries(FACETS).filter(([name]) => hasTwoRuns || name !== 'compare')
  .map(([name, definition]) => new Facet(name, definition))

// %% orders: name -> number by which rows are sorted, the smallest first; rows without one come last
const lastWithout = value => Number.isNaN(value) ? Infinity : value
const SORTS = {
  // probabilities fall in steps: within one, as in the audit, by how much another choice beats the label
  by_label_wrong: row => lastWithout(-(row.label_wrong ?? NaN) + 1e-5 * leadOfTruth(row, row)),
  by_sure_error: row => outcomeOf(row, row) === 'wrong' ? -shareOfSaid(row) : Infinity,
  by_truth: row => lastWithout(shareOfTruth(row, row)),
  by_least_margin: row => lastWithout(row.margin ?? NaN),
  by_most_margin: row => lastWithout(-(row.margin ?? NaN)),
  ...(hasTwoRuns && {by_change: row => lastWithout(-Math.abs(shareOfTruth(row, row.other) - shareOfTruth(row, row)))}),
  by_id: null,
  by_file: (row, number) => number,
}
const sorted = {}

/** Numbers of all rows in an order; each order is made once. */
function rowsBy(name) {
  sorted[name] ??= SORTS[name] ? sortedByNumber(rows.map(SORTS[name])) : sortedById()
  return sorted[name]
}

function sortedByNumber(keys) {
  return Uint32Array.from(keys.keys()).sort((a, b) => keys[a] === keys[b] ? a - b : keys[a] < keys[b] ? -1 : 1)
}

function sortedById() {
  const {compare} = new Intl.Collator('en', {numeric: true})
  return Uint32Array.from(rows.keys()).sort((a, b) => compare(rows[a].id, rows[b].id) || a - b)
}

// %% confidence and search
const BINS = 20
const confidence = Float32Array.from(rows, shareOfSaid) // NaN: not scored
const bins = Uint8Array.from(confidence, share => Math.min(BINS - 1, Math.floor(share * BINS)))
const outcomes = page.runs.map((run, i) => rows.map(row => outcomeOf(row, i ? row.other : row)))
const searched = rows.map(row => [row.id, row.question, ...row.choices].join('\n').toLowerCase())

// %% the query
const query = {text: '', least: 0, most: 100, sort: 'by_label_wrong'}

const hasRange = () => query.least > 0 || query.most < 100
const filterCount = () => facets.filter(facet => facet.chosen.size).length + hasRange() + (query.text.trim() ? 1 : 0)

/**
 * The rows that pass all filters, in order, and how many each value of a filter would show: those that pass all other filters.
 */
function ask() {
  const words = query.text.toLowerCase().split(/\s+/).filter(Boolean), order = rowsBy(query.sort)
  const passing = facets.map(facet => facet.passing())
  const codes = facets.map(facet => facet.codes)
  const counts = facets.map(facet => new Uint32Array(facet.values.length))
  const histogram = {right: new Uint32Array(BINS), wrong: new Uint32Array(BINS), unlabelled: new Uint32Array(BINS)}
  const [least, most, ranged] = [query.least / 100 - 1e-6, query.most / 100 + 1e-6, hasRange()]
  const shown = [], found = page.runs.map(() => ({right: 0, wrong: 0}))
  for (let place = 0; place < order.length; place++) {
    const number = order[place]
    if (words.length && !words.every(word => searched[number].includes(word))) continue
    const share = confidence[number]
    const inRange = !ranged || (share >= least && share <= most)
    let failed = inRange ? 0 : 1, only = -1
    for (let f = 0; f < codes.length && failed < 2; f++) {
      if (!passing[f][codes[f][number]]) {
        failed++
        only = f
      }
    }
    if (failed === 0) {
      shown.push(number)
      for (let f = 0; f < codes.length; f++) counts[f][codes[f][number]]++
      found.forEach((counts, run) => outcomes[run][number] in counts && counts[outcomes[run][number]]++)
    } else if (failed === 1 && only >= 0) {
      counts[only][codes[only][number]]++
    }
    const isOutOfRangeOnly = failed === 1 && !inRange
    const outcome = outcomes[0][number]
    if ((failed === 0 || isOutOfRangeOnly) && outcome in histogram) histogram[outcome][bins[number]]++
  }
  return {shown, counts, histogram, found}
}
