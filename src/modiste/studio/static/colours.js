// A colour per run, kept for as long as the page is open: the classes run-0 to run-7 of the style sheet.

export const COLOURS = 8;
const numbers = new Map();

/** The class with the run's colour. */
export function colourOf(run) {
  if (!numbers.has(run.id)) numbers.set(run.id, numbers.size % COLOURS);
  return `run-${numbers.get(run.id)}`;
}

/** Gives these runs colours unlike each other's, of which the first ones keep theirs. */
export function tellApart(runs) {
  const taken = new Set();
  for (const run of runs) {
    let number = numbers.get(run.id) ?? numbers.size % COLOURS;
    while (taken.has(number) && taken.size < COLOURS) number = (number + 1) % COLOURS;
    taken.add(number);
    numbers.set(run.id, number);
  }
}
