/* The rings: records of finished spans, phases and checkpoints; the timeline; events. */
#ifndef FA_RECORDS_H
#define FA_RECORDS_H

#include "recorder.h"

/* Fills in usage and live heap, and appends. Lock held. */
void record_write(struct fa_record *record);
/* node: stack, 0 for none. Lock held. */
void event_write(enum fa_event_kind kind, uint64_t a, uint64_t b, uint32_t node);
/* An allocation that failed. Repeats at the same stack become one event. Lock held. */
void event_write_failure(uint64_t size, int domain, uint32_t node);
/* One that is about what has this name, in place of a span. Lock held. */
void event_write_about(enum fa_event_kind kind, uint64_t a, uint64_t b, const char *name, size_t name_bytes);

/* Appends to the timeline when a second has passed. Lock held, after usage_refresh. */
void timeline_tick(uint64_t now_ns);

#endif
