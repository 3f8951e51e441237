/* A dump's files and the memory it needs, reserved beforehand. System calls and the mapping only: no
 * heap, no Python. One dump at a time: the caller sees to that. */
#ifndef FA_DUMP_H
#define FA_DUMP_H

#include <stddef.h>
#include <stdint.h>

#define DUMP_SCRATCH_BYTES (72u * 1024)

void *dump_scratch(void); /* DUMP_SCRATCH_BYTES, touched; reserves them if nobody has */

#endif
