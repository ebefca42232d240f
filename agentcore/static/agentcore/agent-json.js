// JSON as the server means it. JavaScript's numbers hold every integer up to 2^53 only: beyond it JSON.parse rounds,
// and a person would be shown, and approve, another number than the one that is stored.

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const exact = (token) => !/^-?\d{16,}$/.test(token) || Number.isSafeInteger(Number(token));

/** The value of JSON text; an integer that no number can hold is its digits, as text. The server takes it back so. */
export function parseJson(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text.replace(TOKEN, (token) => (exact(token) ? token : `"${token}"`)));
}
