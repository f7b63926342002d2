/* The page itself: elements, what is shown in them, clicks and keys. Text is only ever set as text. */

const byId = id => document.getElementById(id)
const isNarrow = () => matchMedia('(max-width: 760px)').matches
let selected = -1 // number of the row in the detail
let result = null // of the latest query

/** An element. Names of properties are as in JavaScript; those with a dash are attributes. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-') || name === 'role') element.setAttribute(name, value)
    else if (name === 'dataset') Object.assign(element.dataset, value)
    else element[name] = value
  }
  element.append(...children.filter(child => child !== null && child !== undefined))
  return element
}

const makeText = (tag, className, textContent) => make(tag, {className, textContent})
const makeButton = (className, textContent, onclick, more = {}) =>
  make('button', {type: 'button', className, textContent, onclick, ...more})

const withWidth = (element, share) => {
  element.style.width = `${Math.max(0, Math.min(100, 100 * share))}%`
  return element
}

// %% words
const KEPT_LANGUAGE = 'mcvqa-language'
let language = firstLanguage()
const say = (name, values = {}) =>
  (page.words[language][name] ?? name).replace(/\{(\w+)\}/g, (whole, key) => key in values ? values[key] : whole)
const number = value => value.toLocaleString(language)
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`

function firstLanguage() {
  let kept = null
  try {
    kept = localStorage.getItem(KEPT_LANGUAGE)
  } catch { /* this browser keeps nothing of files */ }
  return kept in page.words ? kept : navigator.language.startsWith('ko') ? 'ko' : 'en'
}

function chooseLanguage(chosen) {
  language = chosen
  try {
    localStorage.setItem(KEPT_LANGUAGE, chosen)
  } catch { /* as above */ }
  showWords()
  showFacets()
  update()
  showDetail()
}

function showWords() {
  document.documentElement.lang = language
  for (const element of document.querySelectorAll('[data-word]')) element.textContent = say(element.dataset.word)
  for (const element of document.querySelectorAll('[data-title]')) element.title = say(element.dataset.title)
  for (const element of document.querySelectorAll('[data-label]')) element.setAttribute('aria-label', say(element.dataset.label))
  for (const element of document.querySelectorAll('[data-placeholder]')) element.placeholder = say(element.dataset.placeholder)
  for (const button of document.querySelectorAll('[data-language]')) {
    button.setAttribute('aria-pressed', button.dataset.language === language)
  }
  byId('sort').replaceChildren(...Object.keys(SORTS).map(name =>
    make('option', {value: name, textContent: `${say('sort')}: ${say(name)}`, selected: name === query.sort})))
  showHead()
}

function showHead() {
  byId('runs').replaceChildren(...page.runs.map((run, i) => make('span', {}, ...runMark(i), run.name)))
  byId('facts').replaceChildren(...page.runs.map((run, i) => {
    const accuracy = run.accuracy ? ` · ${say('accuracy', {accuracy: run.accuracy})}` : ''
    return make('span', {}, ...runMark(i), run.model + accuracy)
  }))
  const notices = page.runs.filter(run => run.not_measured)
    .map(run => `${hasTwoRuns ? `${run.name}: ` : ''}${say('not_measured', {why: run.not_measured})}`)
  if (page.only_second) notices.push(say('only_second', {run: page.runs[1].name, count: number(page.only_second)}))
  if (page.other_labels) notices.push(say('other_labels', {count: number(page.other_labels)}))
  byId('notices').replaceChildren(...notices.map(text => makeText('p', 'notice', text)))
}

/** The number of a run and a space, where there are two runs. */
const runMark = i => hasTwoRuns ? [makeText('b', `mark run${i + 1}`, String(i + 1)), ' '] : []

// %% photographs: blocks of data URLs behind this script, decoded when one of them is shown
const decoded = new Map() // number of a block -> its URLs
const BLOCKS_KEPT = 200

/** The photograph of a row; '' without one; undefined while the page is still loading it. */
function photographOf(row) {
  if (row.photo === undefined) return ''
  const block = Math.floor(row.photo / page.per_block)
  if (!decoded.has(block)) {
    const element = byId(`photographs-${block}`)
    const isWhole = element && (document.readyState !== 'loading' || byId(`photographs-${block + 1}`))
    if (!isWhole) return undefined
    if (decoded.size >= BLOCKS_KEPT) decoded.delete(decoded.keys().next().value)
    decoded.set(block, JSON.parse(element.textContent))
  }
  return decoded.get(block)[row.photo % page.per_block]
}

function showPhotograph(image, row) {
  const url = photographOf(row)
  image.classList.toggle('missing', !url)
  if (url) image.src = url
  else image.removeAttribute('src')
  image.alt = url ? say('photograph_of', {id: row.id}) : say('no_photograph')
}

/** What each run says of a row that has it. */
const saidOf = row => row.other ? [row, row.other] : [row]

// %% the list: only rows in sight have elements, and these are used again
const ROW_HEIGHT = 108
const lines = [] // elements of rows

function makeLine() {
  const parts = {
    image: make('img', {className: 'thumb', decoding: 'async', draggable: false}),
    id: make('span', {className: 'id'}), tag: make('span', {className: 'tag'}), decision: make('span', {className: 'decision'}),
    question: make('p', {className: 'question', dir: 'auto'}), answers: make('p', {className: 'answers'}),
    columns: make('div', {className: 'columns-of-shares', 'aria-hidden': 'true'}),
  }
  const head = make('p', {className: 'line'}, parts.id, parts.tag, parts.decision)
  const text = make('div', {className: 'text'}, head, parts.question, parts.answers)
  const frame = make('div', {className: 'frame'}, parts.image)
  const element = make('div', {className: 'row', role: 'option'}, frame, text, parts.columns)
  element.addEventListener('click', () => {
    select(result.shown[parts.place])
    openDetail(true)
  })
  return Object.assign(parts, {element, place: -1})
}

function showLines() {
  const list = byId('list'), count = result.shown.length
  const first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - 3)
  const last = Math.min(count, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HEIGHT) + 3)
  while (lines.length < last - first) {
    lines.push(makeLine())
    byId('height').append(lines.at(-1).element)
  }
  lines.forEach((line, i) => {
    const place = first + ((i - first % lines.length + lines.length) % lines.length)
    line.element.hidden = place >= last
    if (place < last) showLine(line, place)
  })
  list.setAttribute('aria-activedescendant', selected >= 0 ? `row-${selected}` : '')
}

function showLine(line, place) {
  const rowNumber = result.shown[place], row = rows[rowNumber], {element} = line
  element.classList.toggle('selected', rowNumber === selected)
  element.setAttribute('aria-selected', rowNumber === selected)
  const {word, choice} = decisions.get(row) ?? {}
  const state = [rowNumber, language, word, choice, photographOf(row) === undefined].join(' ')
  if (line.place !== place) {
    line.place = place
    element.style.transform = `translateY(${place * ROW_HEIGHT}px)`
    element.setAttribute('aria-posinset', place + 1)
  }
  element.setAttribute('aria-setsize', result.shown.length)
  if (line.state === state) return
  line.state = state
  element.id = `row-${rowNumber}`
  showPhotograph(line.image, row)
  line.id.textContent = row.id
  line.tag.hidden = !row.tag
  line.tag.textContent = row.tag ? say(row.tag) : ''
  line.tag.dataset.tag = row.tag ?? ''
  showDecision(line.decision, row)
  line.question.textContent = row.question ?? ''
  line.answers.replaceChildren(...answersOf(row))
  line.columns.replaceChildren(...row.choices.slice(0, 8).map((_, choice) => columnOf(row, choice)))
}

function showDecision(element, row) {
  const decision = decisions.get(row)
  element.hidden = !decision
  element.textContent = decision ? decision.word === 'fix' ? `→ ${letterOf(decision.choice)}` : say(decision.word) : ''
  element.className = `decision ${decision?.word ?? ''}`
}

/** What was said, right or wrong, and the label where it was not said. */
function answersOf(row) {
  const parts = saidOf(row).map((said, run) => answerPart(row, said, run))
  const isRightThroughout = saidOf(row).every(said => outcomeOf(row, said) === 'right')
  if (isLabelled(row) && !isRightThroughout) {
    parts.push(make('span', {className: 'label'}, makeText('small', '', say('label')), ` ${row.choices[row.truth]}`))
  }
  return parts
}

function answerPart(row, said, run) {
  const outcome = outcomeOf(row, said), sign = {right: '✓ ', wrong: '✗ ', unlabelled: '→ ', unscored: '– '}[outcome]
  const text = outcome === 'unscored' ? say('unscored') : row.choices[said.said]
  return make('span', {className: `said ${outcome}`}, ...runMark(run), sign, text)
}

function columnOf(row, choice) {
  const bar = make('i', {className: `${choice === row.truth ? 'truth' : ''} ${choice === row.said ? 'chosen' : ''}`})
  bar.style.height = percent(row.shares?.[choice] ?? 0)
  return make('span', {}, bar)
}

// %% filters
function showFacets() {
  byId('facets').replaceChildren(...facets.filter(facet => facet.isUseful).map(facet => {
    facet.inputs = facet.values.map(value => make('input', {type: 'checkbox', value, checked: facet.chosen.has(value)}))
    facet.counted = facet.values.map(() => make('span', {className: 'n'}))
    const labels = facet.values.map((value, i) => {
      facet.inputs[i].addEventListener('change', () => {
        facet.chosen[facet.inputs[i].checked ? 'add' : 'delete'](value)
        update(true)
      })
      const text = makeText('span', 'value', facet.isRaw ? value : say(value))
      return make('label', {dataset: {value}}, facet.inputs[i], text, facet.counted[i])
    })
    const legend = makeText('legend', '', say(facet.name))
    return make('fieldset', {className: 'facet', dataset: {facet: facet.name}}, legend, ...labels)
  }))
  showHistogram.bars = Array.from({length: BINS}, () =>
    ['wrong', 'unlabelled', 'right'].map(outcome => make('i', {className: outcome})))
  byId('histogram').replaceChildren(...showHistogram.bars.map(bars => make('span', {}, ...bars)))
}

function showCounts() {
  facets.forEach((facet, f) => facet.counted?.forEach((element, value) => {
    element.textContent = number(result.counts[f][value])
    element.parentElement.classList.toggle('empty', result.counts[f][value] === 0)
  }))
  showHistogram()
  const {shown, found} = result, parts = [say('count', {shown: number(shown.length), all: number(rows.length)})]
  found.forEach(({right, wrong}, run) => {
    const labelled = right + wrong, share = percent(right / labelled, 1)
    if (!labelled) return
    parts.push(' · ', ...runMark(run), say('count_right', {right: number(right), labelled: number(labelled), share}))
  })
  byId('count').replaceChildren(...parts)
  byId('nothing').hidden = shown.length > 0
  const count = filterCount()
  byId('clear').hidden = count === 0
  byId('filter-count').hidden = count === 0
  byId('filter-count').textContent = count
  byId('span').textContent = hasRange() ? `${query.least}–${query.most}%` : ''
}

function showHistogram() {
  const {right, wrong, unlabelled} = result.histogram
  const most = Math.max(1, ...Array.from(right, (count, i) => count + wrong[i] + unlabelled[i]))
  showHistogram.bars.forEach(([forWrong, forUnlabelled, forRight], i) => {
    forWrong.style.height = percent(wrong[i] / most, 1)
    forUnlabelled.style.height = percent(unlabelled[i] / most, 1)
    forRight.style.height = percent(right[i] / most, 1)
    forRight.parentElement.classList.toggle('outside', (i + 1) / BINS * 100 <= query.least || i / BINS * 100 >= query.most)
  })
}

function clearFilters() {
  facets.forEach(facet => facet.chosen.clear())
  Object.assign(query, {text: '', least: 0, most: 100})
  byId('search').value = ''
  byId('least').value = 0
  byId('most').value = 100
  showFacets()
  update(true)
}

/** Ask again and show the result. Args: fromTop: the list starts at its first row. */
function update(fromTop = false) {
  result = ask()
  byId('height').style.height = `${result.shown.length * ROW_HEIGHT}px`
  if (fromTop) byId('list').scrollTop = 0
  if (fromTop && !isNarrow() && !result.shown.includes(selected)) select(result.shown[0] ?? -1)
  else showLines()
  showCounts()
}

// %% the detail
function select(rowNumber) {
  selected = rowNumber
  const place = result.shown.indexOf(rowNumber), list = byId('list'), top = place * ROW_HEIGHT
  if (place >= 0 && top < list.scrollTop) list.scrollTop = top
  if (place >= 0 && top + ROW_HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_HEIGHT - list.clientHeight
  showLines()
  showDetail()
}

function openDetail(open) {
  document.body.classList.toggle('detail-open', open && selected >= 0)
  if (open && isNarrow()) byId('detail').scrollTop = 0
}

function step(by) {
  const {shown} = result, place = shown.indexOf(selected)
  if (shown.length) select(shown[Math.max(0, Math.min(shown.length - 1, place < 0 ? 0 : place + by))])
}

function showDetail() {
  const row = rows[selected]
  byId('detail').replaceChildren(...(row ? [
    detailHead(row), ...saidOf(row).map(reasonOf),
    make('h3', {className: 'question', dir: 'auto', textContent: row.question ?? ''}),
    make('ol', {className: 'choices'}, ...row.choices.map((_, choice) => make('li', {}, choiceOf(row, choice)))),
    decisionBar(row), factsOf(row), neighboursOf(row, 'look_alikes'), neighboursOf(row, 'same_question'),
  ].filter(Boolean) : []))
}

function detailHead(row) {
  const image = make('img', {className: 'photograph', draggable: false}), decision = make('span')
  showPhotograph(image, row)
  showDecision(decision, row)
  const fold = row.fold === undefined ? '' : `${say('fold')} ${row.fold}`
  const facts = [say(row.split), fold, say(row.kind), row.source === row.split ? '' : row.source].filter(Boolean).join(' · ')
  return make('div', {className: 'detail-head'},
    make('div', {className: 'frame'}, image),
    make('div', {className: 'about'}, makeText('h2', '', row.id), makeText('p', 'small', facts), decision),
    make('div', {className: 'steps'},
      makeButton('round small back', '←', () => openDetail(false), {'aria-label': say('back')}),
      makeButton('round small', '‹', () => step(-1), {'aria-label': say('previous')}),
      makeButton('round small', '›', () => step(1), {'aria-label': say('next')})))
}

function reasonOf({tag, reason}, run) {
  if (!tag) return null
  const why = makeText('span', '', reason?.[language] ?? '')
  return make('p', {className: 'reason', dataset: {tag}}, ...runMark(run), makeText('strong', '', say(tag)), ' ', why)
}

/** A choice with its bars; a button, where the row can be decided on. */
function choiceOf(row, choice) {
  const shares = (hasTwoRuns ? [row, row.other] : [row]).flatMap((said, run) => shareOf(row, said, choice, run))
  const marks = marksOf(row, choice).flatMap(mark => [' ', mark])
  const content = [makeText('span', 'letter', letterOf(choice)),
    make('span', {className: 'words', dir: 'auto'}, row.choices[choice], ...marks), ...shares]
  if (!canDecide(row)) return make('div', {className: 'choice'}, ...content)
  const {word, choice: fixed} = decisions.get(row) ?? {}
  const isDecided = word === 'fix' ? fixed === choice : word === 'keep' && row.file_label === choice
  const clicked = () => decide(isDecided ? undefined : decisionFor(row, choice))
  const button = makeButton(`choice ${isDecided ? 'decided' : ''}`, '', clicked,
    {'aria-pressed': isDecided, title: say('is_right', {choice: row.choices[choice]})})
  button.append(...content)
  return button
}

/** Whether a choice is the label, and who said it. */
function marksOf(row, choice) {
  const marks = []
  if (choice === row.truth) marks.push(makeText('span', 'mark-label', say('label')))
  if (choice === row.file_label && choice !== row.truth) marks.push(makeText('span', 'mark-label', say('label_of_file')))
  saidOf(row).forEach((said, run) => {
    if (said.said !== choice) return
    marks.push(make('span', {className: `mark-said ${outcomeOf(row, said)}`}, ...runMark(run), say('said')))
  })
  return marks
}

/** Elements of a line of the grid: run, bar and number. */
function shareOf(row, said, choice, run) {
  const share = said?.shares?.[choice]
  const color = choice === row.truth ? 'right' : said?.said === choice ? outcomeOf(row, said) : ''
  const bar = withWidth(makeText('i', color, ''), share ?? 0)
  const text = share === undefined ? '–' : percent(share, 1)
  return [...runMark(run).slice(0, 1), make('span', {className: 'bar'}, bar), makeText('span', 'share', text)]
}

function decisionBar(row) {
  if (!canDecide(row)) return null
  const chance = row.label_wrong === undefined ? '' : say('wrong_by', {share: percent(row.label_wrong)})
  const proposal = proposalFor(row), fix = proposal ? say('fix_it', {choice: letterOf(proposal.choice)}) : say('fix')
  return make('div', {className: 'decision-bar'},
    make('p', {}, makeText('strong', '', say('is_label_right')), makeText('span', 'small', chance)),
    make('div', {className: 'buttons'},
      decisionButton(row, 'keep', 'g', say('keep_it'), {word: 'keep'}), decisionButton(row, 'fix', 'f', fix, proposal),
      decisionButton(row, 'drop', 'd', say('drop_it'), {word: 'drop'})),
    makeText('p', 'small', say('choose_right')))
}

function decisionButton(row, word, key, text, decision) {
  const isDecided = decisions.get(row)?.word === word
  const button = makeButton(`decide ${word}`, text, () => decide(isDecided ? undefined : decision),
    {'aria-pressed': isDecided, 'aria-keyshortcuts': key, disabled: decision === null})
  button.append(makeText('kbd', '', key))
  return button
}

/** The fix that was decided on, else the one that the models propose; null without one. */
function proposalFor(row) {
  const decision = decisions.get(row)
  if (decision?.word === 'fix') return decision
  return row.proposed === undefined || row.proposed === row.file_label ? null : {word: 'fix', choice: row.proposed}
}

const AGREEMENTS = ['order_agreement', 'scale_agreement', 'member_agreement', 'fold_agreement']

/** What is known beside the answer; of two runs one value each. */
function factsOf(row) {
  const each = (name, show) => saidOf(row).map(said => said[name] === undefined ? '–' : show(said[name]))
  const perChoice = (values, show) => values ? [values.map((value, choice) => `${letterOf(choice)} ${show(value)}`).join('  ')] : []
  const facts = {
    margin: each('margin', share => share.toFixed(2)), entropy: each('entropy', share => share.toFixed(2)),
    rank: each('rank', rank => `${rank} / ${row.choices.length}`),
    ...Object.fromEntries(AGREEMENTS.map(name => [name, each(name, share => percent(share))])),
    prior: perChoice(row.prior, share => percent(share)), votes: perChoice(row.votes, String), file: row.image ? [row.image] : [],
  }
  const known = Object.entries(facts).filter(([, values]) => values.some(value => value !== '–'))
  return make('dl', {className: 'facts'}, ...known.map(([name, values]) =>
    make('div', {}, makeText('dt', '', say(name)), makeText('dd', '', values.join(' | ')))))
}

function neighboursOf(row, name) {
  if (!row[name]) return null
  const links = row[name].map(([id, answer, isSame]) => {
    const there = rows.findIndex(other => other.split === 'train' && other.id === id)
    const text = `${id}: ${answer}${isSame && name === 'look_alikes' ? ' (=)' : ''}`
    return make('li', {}, there < 0 ? text : makeButton('link', text, () => select(there)))
  })
  const heading = makeText('h4', '', say(name, {count: number(row[`${name}_count`])}))
  return make('div', {className: 'neighbours'}, heading, make('ul', {}, ...links))
}

// %% decisions
function decide(decision) {
  const row = rows[selected]
  if (!row) return
  if (!canDecide(row)) return showToast(say('not_labelled'))
  if (decision === null) return showToast(say('no_proposal'))
  setDecision(row, decision)
  showToast(decision ? `${row.id}: ${spelledDecision(row, decision)}` : say('withdrawn', {id: row.id}), true)
  afterDecision()
}

function spelledDecision(row, {word, choice}) {
  if (word === 'fix') return say('fixed_to', {choice: `${letterOf(choice)} (${row.choices[choice]})`})
  return say({keep: 'kept', drop: 'dropped'}[word])
}

/** By key: the next row follows. */
function decideByKey(decision) {
  const before = selected, next = result.shown[result.shown.indexOf(selected) + 1]
  decide(decision)
  if (decision && next !== undefined && selected === before && canDecide(rows[before])) select(next)
}

function undo() {
  const row = undoDecision()
  if (!row) return
  selected = numberOf.get(row)
  showToast(say('withdrawn', {id: row.id}))
  afterDecision()
  select(selected)
}

function afterDecision() {
  update()
  showDetail()
  showDecided()
}

function showDecided() {
  byId('download').disabled = decisions.size === 0
  byId('decided-count').hidden = decisions.size === 0
  byId('decided-count').textContent = number(decisions.size)
}

function showToast(text, canUndo = false) {
  byId('toast').replaceChildren(makeText('span', '', text), ...(canUndo ? [makeButton('link', say('undo'), undo)] : []))
  byId('toast').classList.add('shown')
  clearTimeout(showToast.timer)
  showToast.timer = setTimeout(() => byId('toast').classList.remove('shown'), 4000)
}

// %% keys: also where a Korean keyboard writes Hangul
function keyOf({key, code}) {
  return /^Key[A-Z]$/.test(code) && !/^[a-z]$/i.test(key) ? code.slice(3).toLowerCase() : key
}

const rowsInSight = () => Math.max(1, Math.floor(byId('list').clientHeight / ROW_HEIGHT) - 1)
const KEYS = {
  j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
  PageDown: () => step(rowsInSight()), PageUp: () => step(-rowsInSight()),
  Home: () => step(-rows.length), End: () => step(rows.length), Enter: () => openDetail(true),
  g: () => decideByKey({word: 'keep'}), f: () => rows[selected] && decideByKey(proposalFor(rows[selected])),
  d: () => decideByKey({word: 'drop'}), u: undo,
  '/': () => byId('search').focus(), '?': () => byId('help').showModal(), Escape: leave,
}
const OF_ELEMENTS = ['ArrowDown', 'ArrowUp', 'Enter', 'Home', 'End', 'PageDown', 'PageUp'] // keys that buttons and filters use

function pressed(event) {
  const {target} = event, isTyping = target.matches('input:not([type=checkbox]), select, textarea')
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || byId('help').open) return
  const key = keyOf(event)
  if (isTyping && key !== 'Escape') return
  if (OF_ELEMENTS.includes(key) && target.matches('button, input')) return
  const row = rows[selected], isChoice = row && /^[1-9]$/.test(key) && Number(key) <= row.choices.length
  const act = isChoice ? () => decideByKey(decisionFor(row, Number(key) - 1)) : KEYS[key]
  if (!act) return
  event.preventDefault()
  act()
}

function leave() {
  if (document.body.classList.contains('filters-open')) return openFilters(false)
  if (document.body.classList.contains('detail-open') && isNarrow()) return openDetail(false)
  if (query.text) search(byId('search').value = '')
  byId('list').focus()
}

function search(text) {
  query.text = text
  update(true)
}

const openFilters = open => document.body.classList.toggle('filters-open', open)

function chooseRange() {
  const [least, most] = [Number(byId('least').value), Number(byId('most').value)]
  Object.assign(query, {least: Math.min(least, most), most: Math.max(least, most)})
  update(true)
}

// %% start
document.addEventListener('keydown', pressed)
byId('list').addEventListener('scroll', () => requestAnimationFrame(showLines))
addEventListener('resize', () => requestAnimationFrame(showLines))
byId('search').addEventListener('input', event => search(event.target.value))
byId('sort').addEventListener('change', event => {
  query.sort = event.target.value
  update(true)
})
byId('least').addEventListener('input', chooseRange)
byId('most').addEventListener('input', chooseRange)
byId('clear').addEventListener('click', clearFilters)
byId('filters-open').addEventListener('click', () => openFilters(true))
byId('filters-close').addEventListener('click', () => openFilters(false))
byId('help-button').addEventListener('click', () => byId('help').showModal())
byId('help-close').addEventListener('click', () => byId('help').close())
byId('download').addEventListener('click', downloadFixes)
document.querySelectorAll('[data-language]').forEach(button =>
  button.addEventListener('click', () => chooseLanguage(button.dataset.language)))
addEventListener('beforeunload', event => {
  if (!isStored && decisions.size) event.preventDefault() // this browser keeps nothing: the decisions would be lost
})

recallDecisions()
showWords()
showFacets()
update(true)
showDecided()
const waiting = setInterval(showLines, 150) // photographs come behind this script
document.addEventListener('DOMContentLoaded', () => {
  clearInterval(waiting)
  showLines()
  showDetail()
})
