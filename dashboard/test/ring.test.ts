import { expect, test } from 'vitest';
import { Ring } from '../src/console/ring';

test('a ring holds the newest, newest first, and says which one made room', () => {
  const ring = new Ring<number>(3);
  expect(ring.at(0)).toBeUndefined();
  expect([1, 2, 3, 4, 5].map((item) => ring.push(item))).toEqual([undefined, undefined, undefined, 1, 2]);
  expect([0, 1, 2, 3].map((at) => ring.at(at))).toEqual([5, 4, 3, undefined]);
  expect(ring.length).toBe(3);
  ring.clear();
  expect([ring.length, ring.at(0), ring.push(6), ring.at(0)]).toEqual([0, undefined, undefined, 6]);
});
