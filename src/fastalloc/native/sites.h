/* Interned stacks. Lock held for all of it.
 *
 *   raw frames --> (whole-stack cache) --> node (leaf of the tree of stacks) --> site (node, domain)
 *
 * A code object is known by its address and an identity (see codes.h), since addresses are
 * used again; at first sight its names are copied into the recording, so that no reference to it is kept and a dead process's file
 * explains itself. What is interned is content: two code objects with the same names, first line
 * and line table are one function.
 */
#ifndef FA_SITES_H
#define FA_SITES_H

#include <stdint.h>

#include "stack.h"

int sites_reset(void); /* new recording; 0 on success */
void sites_reindex(void); /* nodes and sites have moved */
int sites_child(void); /* forked child: private tables anew, from the recording; 0 on success */
/* The leaf's node; 0 when there are no frames or a table is full (counted). */
uint32_t stack_intern(const struct raw_frame *frames, int count, uint64_t hash, int cut);
uint32_t site_intern(uint32_t node, uint32_t domain);

#endif
