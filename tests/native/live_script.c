/* live_script DIRECTORY CAPACITY: runs operations on the live table, read from stdin one a line:
 *
 *   a ADDRESS SIZE WEIGHT SITE   add            t ADDRESS   take: prints size and weight, or "-"
 *   r  restore what was taken    f  forget it   m ADDRESS   prints live_maybe
 *   d DOMAIN  drop a domain      s  state: prints totals, and what each site holds and held
 */
#include <inttypes.h>

#include "check.h"
#include "live.h"

static void show_state(void)
{
    const struct fa_header *header = fa.header;
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, header->live_bytes, header->live_samples,
           header->high_water_bytes, header->freed, header->losses[FA_LOSS_STALE]);
    for (int site = 1; site <= 4; site++) {
        const struct fa_held *held = &fa.sites[site].held;
        /* How readers are told to take it: see layout.h. */
        int now = held->peak != header->peak || header->at_peak;
        printf(" %" PRIu64 " %" PRIu64 " %" PRIu32, held->live_bytes,
               now ? held->live_bytes : held->high_water_bytes, held->samples);
    }
    putchar('\n');
}

int main(int count, char **arguments)
{
    if (count < 3) return 2;
    test_directory = arguments[1];
    CHECK_EQUAL(test_start(1), FA_OK);
    fa.header->regions[FA_LIVE].capacity = (uint32_t)strtoul(arguments[2], NULL, 10);
    lock_begin();
    struct fa_live taken = {0};
    char operation;
    while (scanf(" %c", &operation) == 1) {
        uint64_t address = 0, size = 0, weight = 0;
        uint32_t site = 0;
        switch (operation) {
        case 'a':
            CHECK(scanf("%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu32, &address, &size, &weight, &site) == 4);
            struct fa_live sample = {.size = size, .weight = weight, .site = site, .domain = site % 3,
                                     .generation = fa.generation};
            live_add(address, &sample);
            break;
        case 't':
            CHECK(scanf("%" SCNu64, &address) == 1);
            if (live_take(address, &taken)) printf("%" PRIu64 " %" PRIu64 "\n", taken.size, taken.weight);
            else puts("-");
            break;
        case 'r': live_restore(&taken); break;
        case 'f': live_forget(&taken); break;
        case 'm':
            CHECK(scanf("%" SCNu64, &address) == 1);
            printf("%d\n", live_maybe((void *)address));
            break;
        case 'd':
            CHECK(scanf("%" SCNu64, &address) == 1);
            live_drop_domain((uint32_t)address);
            break;
        case 's': show_state(); break;
        default: return 2;
        }
    }
    lock_end();
    fa_stop(0);
    return remove(fa_recording_path());
}
