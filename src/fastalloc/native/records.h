/* The rings: records of finished spans, phases and checkpoints; the timeline; events. */
#ifndef FA_RECORDS_H
#define FA_RECORDS_H

#include "recorder.h"

/* Fills in usage and live heap, and appends. Lock held. */
void record_write(struct fa_record *record);
/* node: stack, 0 for none. Lock held. */
void event_write(enum fa_event_kind kind, uint64_t a, uint64_t b, uint32_t node);

/* Reads RSS and the cgroup's usage anew if the last reading is older. About 2 us when it does;
 * system calls only, no lock held. */
void usage_refresh(uint64_t older_than_ns);
/* Appends to the timeline when a second has passed. Lock held, after usage_refresh. */
void timeline_tick(uint64_t now_ns);

/* Opens the files to read usage from (kept open: opening costs more than reading). */
void usage_open(const char *cgroup_usage_path);
void usage_reopen(void); /* in a forked child: /proc/self is another one */

#endif
