// What the tests ask of the page, as a reader would: by the names that stand there.

const named = (name) => [...document.querySelectorAll("main section")].find((section) => section.dataset.name === name);

// The states of the window's cells, in order; places where no record is are left out.
const cells = (name) => [...named(name).querySelectorAll(".window .cell:not(.empty)")].map((cell) => cell.classList[1]).join(" ");

// The number beside a state in the legend.
const legend = (name, state) => Number(named(name).querySelector(`.legend .${state}`).parentElement.querySelector("b").textContent);

// A value in the row of totals.
const total = (name, label) =>
  [...named(name).querySelectorAll("dt")].find((term) => term.textContent === label).nextSibling.textContent;

// The value of now beside a chart.
const now = (name, label) =>
  Number([...named(name).querySelectorAll(".keys li")].find((key) => key.textContent.startsWith(label)).querySelector("b").textContent);

const lamp = (name) => [...document.querySelectorAll("#lamps li")].find((lamp) => lamp.textContent.startsWith(name));

const connected = () => document.body.dataset.connection;
