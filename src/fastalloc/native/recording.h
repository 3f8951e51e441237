/* The mapped file: created, laid out, detached, and carried over a fork. */
#ifndef FA_RECORDING_H
#define FA_RECORDING_H

#include "fastalloc.h"

/* Creates the file, reserves its disk space, maps it and writes an empty header, without the magic. */
fa_status recording_create(const struct fa_config *config);

/* Lets others see it: its tables have been begun, and it runs. Lock held. */
void recording_show(const struct fa_config *config);

/* Puts anonymous memory in the mapping's place: the file stays as it is, late writers are safe. */
void recording_detach(void);

/* Copies the header and what is in use of each region, to the same offsets, the magic last. Under the lock. */
void recording_copy_used(void *to, const void *from);

/* Notes what failed, for fa_error_step; errno says why. */
fa_status recording_fail(const char *step);

/* Points the region pointers into the mapping. */
void recording_bind(void);

/* fork: a copy of what is in use, made under the lock before the fork. */
int recording_copy_aside(void);
void recording_drop_copy(void);
/* In the child: anonymous memory under the same addresses, holding the copy. 0; -1: there was no copy,
 * so nothing is recorded; -2: no memory, and the mapping must not be touched. Async-signal-safe. */
int recording_to_memory(void);
/* Gives a forked child its file, once it has lived for `after_ns`. No lock held. */
void recording_settle(uint64_t after_ns);
int recording_settled(void);
#define FA_SETTLE_NS 50000000ull
#define FA_SETTLE_BYTES (8u << 20) /* or as soon as it has allocated that much */

static inline uint64_t page_up(uint64_t bytes)
{
    return (bytes + FA_PAGE_BYTES - 1) & ~(uint64_t)(FA_PAGE_BYTES - 1);
}

#endif
