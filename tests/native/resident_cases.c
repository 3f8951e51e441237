/* What resident memory consists of: numbers out of the allocators' own telling. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fastalloc.h"
#include "raw_memory.h"
#include "recorder.h"
#include "resident.h"

static void the_printout_of_pymalloc_is_read(void)
{
    static const char printout[] = "# arenas allocated current         =                    4\n"
                                   "4 arenas * 1048576 bytes/arena     =            4,194,304\n\n"
                                   "# bytes in allocated blocks        =            2,923,504\n"
                                   "# bytes in available blocks        =              418,560\n"
                                   "48 unused pools * 16384 bytes      =              786,432\n";
    uint64_t held = 0, live = 0;
    CHECK(arenas_parse(printout, &held, &live));
    CHECK_EQUAL(held, 4194304);
    CHECK_EQUAL(live, 2923504);
}

static void a_printout_that_does_not_fit_together_is_not_believed(void)
{
    uint64_t held, live;
    CHECK(!arenas_parse("", &held, &live));
    CHECK(!arenas_parse("4 arenas * 1048576 bytes/arena = 4,194,304\n", &held, &live));
    CHECK(!arenas_parse("4 arenas * 1048576 bytes/arena = x\n# bytes in allocated blocks = 1\n"
                        "# bytes in available blocks = 1\n", &held, &live));
    CHECK(!arenas_parse("1 arenas * 1048576 bytes/arena = 1,048,576\n# bytes in allocated blocks = 1,048,576\n"
                        "# bytes in available blocks = 1\n", &held, &live));
}

static struct fa_resident look_now(struct fa_look *look)
{
    fa_look_begin(look);
    fa_look_at_arenas(look);
    fa_look_end(look);
    return look->found;
}

static void our_own_share_is_what_we_touched(void)
{
    CHECK_EQUAL(test_start(1000), FA_OK);
    static struct fa_look look;
    struct fa_resident before = look_now(&look), after;
    size_t bytes = 1 << 20, touched = bytes / 4;
    char *memory = raw_memory_map(bytes);
    memset(memory, 1, touched);
    after = look_now(&look);
    if (before.own_anon_bytes == FA_UNKNOWN) return; /* no pagemap here */
    /* exact, but for what the first look itself was the first to touch */
    CHECK(after.own_anon_bytes - before.own_anon_bytes >= touched);
    CHECK(after.own_anon_bytes - before.own_anon_bytes < bytes);
    CHECK(after.own_file_bytes != FA_UNKNOWN && after.own_shmem_bytes != FA_UNKNOWN);
    CHECK(after.own_file_bytes + after.own_shmem_bytes > 0);
    raw_memory_unmap(memory, bytes);
    before = look_now(&look);
    CHECK(before.own_anon_bytes < after.own_anon_bytes);
    CHECK_EQUAL(fa.header->resident.time_ns, before.time_ns);
    CHECK_EQUAL(fa.header->sequence % 2, 0);
    fa_stop(0);
}

static void what_malloc_holds_free_is_seen_or_unknown(void)
{
    CHECK_EQUAL(test_start(1 << 30), FA_OK);
    enum { COUNT = 400, BYTES = 100000 };
    static char *blocks[COUNT];
    static struct fa_look look;
    struct fa_resident full, holes;
    for (int i = 0; i < COUNT; i++) memset(blocks[i] = malloc(BYTES), 1, BYTES);
    full = look_now(&look);
    for (int i = 0; i < COUNT; i += 2) free(blocks[i]);
    holes = look_now(&look);
    if (full.malloc_free_bytes != FA_UNKNOWN) { /* a sanitizer's malloc is not the C library's */
        uint64_t freed = (uint64_t)COUNT / 2 * BYTES;
        CHECK(holes.malloc_free_bytes - full.malloc_free_bytes > freed * 9 / 10);
        CHECK(full.malloc_live_bytes - holes.malloc_live_bytes > freed * 9 / 10);
        CHECK(holes.malloc_free_count > full.malloc_free_count + COUNT / 4);
    }
    for (int i = 1; i < COUNT; i += 2) free(blocks[i]);
    fa_stop(0);
}

const struct test_case resident_cases[] = {
    {"the printout of pymalloc is read", the_printout_of_pymalloc_is_read},
    {"a printout that does not fit together is not believed", a_printout_that_does_not_fit_together_is_not_believed},
    {"our own share is what we touched", our_own_share_is_what_we_touched},
    {"what malloc holds free is seen or unknown", what_malloc_holds_free_is_seen_or_unknown},
    {NULL, NULL},
};
