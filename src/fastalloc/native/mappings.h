/* Mapped memory that is in the live heap: which address ranges its samples cover.
 *
 * Mappings are unmapped by range, not by the address they began at: a part of one, or several at once.
 * The samples themselves are in the live table, under the address where each begins.
 *
 *   sampled:           [--------------A--------------]      [---B---]
 *   munmap:                     [xxxxxxxxx]
 *   then:              [--A1---]           [---A2----]      [---B---]
 *
 * A piece keeps its part of the weight: the chance that A was chosen is the chance that its pieces
 * are in the table. The table is bounded; a sample that finds it full is lost, and counted.
 */
#ifndef FA_MAPPINGS_H
#define FA_MAPPINGS_H

#include <stddef.h>
#include <stdint.h>

#include "recorder.h"

/* Lock held. Room for a sample about to be added under `start`; 0: the table is full. What it overlaps
 * was unmapped unseen: a loss. */
int mappings_add(uintptr_t start, uint64_t bytes);
void mappings_reset(void); /* empty; its room follows the recording's live table */
void mappings_child(void); /* forked child: anew, from the recording */

/* Before a range is unmapped: what is sampled in it goes out of the live heap. */
#define MAPPING_CUTS 8
struct mapping_cut {
    uintptr_t start, end;
    uint32_t count; /* of `taken`: what there was before. More than MAPPING_CUTS cannot be put back */
    struct fa_live taken[MAPPING_CUTS];
};
void mappings_cut(struct mapping_cut *cut, uintptr_t start, uint64_t bytes);
/* After: `gone`, or it is all still there. */
void mappings_cut_done(const struct mapping_cut *cut, int gone);

#endif
