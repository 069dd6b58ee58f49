/** Text as one word of a shell. */
export function shellQuoted(text: string): string {
  return /^[-\w.,:/=@]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
