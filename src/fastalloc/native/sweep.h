/* Gives up stacks and sites that nothing in the recording refers to any more. Lock held.
 *
 * A service that runs for weeks meets more stacks than the tables hold, and the stack that matters is
 * the newest. So once a table reaches its budget, what is still referred to moves to the front, in
 * order, and the rest is free again:
 *
 *   sites   0 a . b . . c      live, freed and held at the high-water mark --> kept
 *   nodes   0 r . s . t        leaves of kept sites and of events, with all their callers --> kept
 *
 *   sites   0 a b c            every reference in the recording follows
 *   nodes   0 r s t            order is kept, so a parent's index stays smaller than its child's
 *
 * A dropped site's totals go to site 0. The budgets, not the tables' capacities, bound what a recorder
 * in light mode touches; they grow while much is live. Costs about 0.3 ms, once in thousands of new
 * stacks. If the process dies inside, `sweeping` tells readers that stacks are not to be trusted.
 */
#ifndef FA_SWEEP_H
#define FA_SWEEP_H

#include <stdint.h>

void sweep_reset(void); /* new recording, or a forked child's */
void sweep_if_needed(void); /* before a stack is interned: there is room for it afterwards, if at all */

#endif
