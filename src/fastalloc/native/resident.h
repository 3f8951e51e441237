/* What resident memory consists of. Costs nothing until asked for; never asked inside a hook.
 *
 * Laws
 *  1. The parts that take a lock of somebody else's (malloc's arenas, the dynamic linker's) are read without
 *     the GIL and without our lock.
 *  2. What cannot be told is FA_UNKNOWN, not a guess.
 */
#ifndef FA_RESIDENT_H
#define FA_RESIDENT_H

#include <stdint.h>

/* The object allocator's statistics, taken out of the text that CPython prints of them. 0: they are not
 * in it. */
int arenas_parse(const char *text, uint64_t *held, uint64_t *live);

#endif
