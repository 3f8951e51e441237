/* What resident memory consists of. Costs nothing until asked for; never asked inside a hook.
 *
 * Laws
 *  1. What takes a lock of somebody else's (malloc's arenas, the dynamic linker's, the C library's streams) is
 *     done without the GIL and without our lock: who holds such a lock may be waiting for the GIL.
 *  2. What cannot be told is FA_UNKNOWN, not a guess.
 */
#ifndef FA_RESIDENT_H
#define FA_RESIDENT_H

#include <stdint.h>

#include "fastalloc.h"

/* The object allocator's statistics: where CPython will print them to, and what it printed. No GIL. */
void arenas_open(struct fa_look *look);
void arenas_close(struct fa_look *look);
/* 0: they are not in the text. */
int arenas_parse(const char *text, uint64_t *held, uint64_t *live);

#endif
