// What is administered, as one file.
export { Keys } from './keys';
