/* The C functions of the calling thread's stack, above its innermost Python frame.
 *
 *   hook <- numpy <- numpy <- CPython's call <- eval loop (ends here: `limit` lies in its frame)
 *   \_ own _/\___ kept ____/\_ left out ____/
 *
 * An own reader of unwind tables (.eh_frame) instead of libgcc's, which takes a lock while code is
 * registered with it (JIT compilers), and believes whatever stands on the stack.
 *
 * Laws
 *  1. No allocation, no lock: _dl_find_object (glibc 2.35) finds an address's module and tables without
 *     one, even inside dlopen. Where it is missing nothing is walked.
 *  2. Nothing on the stack is believed: each page is probed by a system call before it is first read, a frame must
 *     lie above the one before, and the depth is bounded. So foreign stacks (makecontext, signal
 *     stacks) and broken ones end the walk, not the process.
 *  3. A module is known by its content and path, looked at anew at each sample: another one that is loaded at
 *     the same address later is another one. What is on our own stack is not unloaded meanwhile.
 */
#ifndef FA_NATIVE_FRAMES_H
#define FA_NATIVE_FRAMES_H

#include <stdint.h>

#include "stack.h"

/* Looks up what walks need, once: waits for who loads a library, see linker.h. NULL, or why there can be none. */
const char *native_frames_prepare(void);

/* Fills `frames` leaf first; returns how many. limit: an address in the eval loop's C frame, 0: there is none, and
 * the walk goes on to the root; 1: it is not known, and there are none. `hash` is mixed with the frames. `cut`: there were more. */
int native_frames_walk(struct raw_frame *frames, int capacity, uintptr_t limit, uint64_t *hash, int *cut);

/* `function`: the build id in hex, or "headers-" and a hash of the program headers. `file`: the path. */
void native_frame_names(const struct raw_frame *frame, struct code_names *names);

#endif
