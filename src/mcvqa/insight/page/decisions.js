/* Decisions about labels, kept by this browser, and fixes.csv as src/mcvqa/data/fixes.py reads it. */

const STORE = `mcvqa-decisions-${page.rows_print}`
const past = [] // [row, decision before], the latest last
let isStored = true

const canDecide = row => row.split === 'train'
const letterOf = choice => choice === undefined || choice === null ? '' : LETTERS[choice]

/** A decision that a choice is right: the label in the file is kept, or fixed to it. */
const decisionFor = (row, choice) => choice === row.file_label ? {word: 'keep'} : {word: 'fix', choice}

function setDecision(row, decision) {
  past.push([row, decisions.get(row)])
  putDecision(row, decision)
  storeDecisions()
}

/** Returns the row whose last decision was withdrawn, or undefined. */
function undoDecision() {
  if (!past.length) return undefined
  const [row, before] = past.pop()
  putDecision(row, before)
  storeDecisions()
  return row
}

function putDecision(row, decision) {
  if (decision) decisions.set(row, decision)
  else decisions.delete(row)
  facets.find(facet => facet.name === 'decision').update(numberOf.get(row))
}

const numberOf = new Map(rows.map((row, number) => [row, number]))

// %% what the browser keeps
function storeDecisions() {
  try {
    const kept = Object.fromEntries([...decisions].map(([row, {word, choice}]) => [row.id, [word, choice ?? null]]))
    localStorage.setItem(STORE, JSON.stringify(kept))
  } catch {
    isStored = false
  }
}

function recallDecisions() {
  const known = new Map(rows.filter(canDecide).map(row => [row.id, row]))
  for (const [id, [word, choice]] of Object.entries(storedDecisions() ?? page.decided)) {
    const row = known.get(id)
    const isPossible = word === 'keep' || word === 'drop' || (word === 'fix' && choice >= 0 && choice < row?.choices.length)
    if (row && isPossible) putDecision(row, word === 'fix' ? {word, choice} : {word})
  }
}

function storedDecisions() {
  try {
    return JSON.parse(localStorage.getItem(STORE))
  } catch {
    return null
  }
}

// %% fixes.csv
const FORMULA = /^'*[=+\-@\t\r\n＝＋－＠]/ // as in src/mcvqa/base/files.py: a spreadsheet would run it

function asCell(text) {
  const safe = FORMULA.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

function cellsOf(row, {word, choice}) {
  const proposed = word === 'fix' ? choice : row.proposed === row.file_label ? undefined : row.proposed
  const probability = row.label_wrong === undefined ? '' : row.label_wrong.toFixed(3)
  const cells = {
    id: row.id, now: letterOf(row.file_label), proposed: letterOf(proposed), decision: word, probability,
    now_text: row.choices[row.file_label] ?? '', proposed_text: row.choices[proposed] ?? '', image: row.image ?? '',
    question: row.question ?? '',
  }
  return page.header.map(name => cells[name])
}

/** All decisions in the order of the file, then the rows that earlier decisions have dropped. */
function fixesAsCsv() {
  const decided = rows.filter(row => decisions.has(row)).map(row => cellsOf(row, decisions.get(row)))
  const lines = [page.header, ...decided, ...page.dropped].map(cells => cells.map(asCell).join(','))
  return `\ufeff${lines.join('\n')}\n` // the mark is for Excel
}

function downloadFixes() {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(new Blob([fixesAsCsv()], {type: 'text/csv;charset=utf-8'}))
  link.download = 'fixes.csv'
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60000)
}
