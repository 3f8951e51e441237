/* Labels: the names of spans, phases and checkpoints, and the table of (span name, phase name).
 * Lock held. */
#ifndef FA_LABELS_H
#define FA_LABELS_H

#include <stddef.h>
#include <stdint.h>

void labels_reset(void); /* new recording */
void labels_child(void); /* forked child: the private index anew, from the recording */
/* String id of a name given by the program. Its length and number are bounded, so that ids or paths
 * used as names cannot fill the strings: what is too much becomes "(other)". */
uint32_t name_intern(const char *text, size_t bytes);
/* Index into FA_PHASES; span_name: string id, 0 for a phase of the process. 0 when the table is full. */
uint32_t phase_label(uint32_t span_name, const char *text, size_t bytes);
uint32_t phase_label_of(uint32_t span_name, uint32_t name);

#endif
