// Filters: every key must hold; a list holds literals, one of which it is, or operators, all of which must pass.
const OPERATORS = {
  $gt: (value, than) => typeof value === "number" && value > than,
  $lt: (value, than) => typeof value === "number" && value < than,
};

export function matches(rule, value) {
  return Object.entries(rule ?? {}).every(([key, asked]) => passes(asked, value?.[key]));
}

function passes(asked, value) {
  if (!Array.isArray(asked)) return matches(asked, value);
  if (asked.some((one) => typeof one === "object" && one !== null)) {
    return asked.every((one) => Object.entries(one).every(([name, than]) => OPERATORS[name](value, than)));
  }
  return asked.includes(value);
}
