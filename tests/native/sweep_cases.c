/* Sweeps: whatever stacks come and go, what is still referred to keeps its stack. */
#include <string.h>

#include "check.h"
#include "live.h"
#include "records.h"
#include "sites.h"
#include "stack.h"

#define DEPTH 6
#define BLOCKS 500

static char blocks[BLOCKS][64];

static void stack_number(uint32_t number, int *functions, int *lines)
{
    uint64_t random = number * 0x9E3779B97F4A7C15ull + 1;
    for (int i = 0; i < DEPTH; i++) {
        functions[i] = (int)(test_random(&random) % 100);
        lines[i] = functions[i] + (int)(test_random(&random) % 5);
    }
}

static void run_stack(uint32_t number)
{
    int functions[DEPTH], lines[DEPTH];
    stack_number(number, functions, lines);
    fake_stack(DEPTH, functions, lines);
}

static int is_stack(uint32_t node, uint32_t number)
{
    int functions[DEPTH], lines[DEPTH];
    char text[32];
    stack_number(number, functions, lines);
    for (int i = 0; i < DEPTH; i++) {
        const struct fa_node *n = &fa.nodes[node];
        snprintf(text, sizeof text, "function_%d", functions[i]);
        if (n->parent >= node || n->line != lines[i]) return 0;
        if (strcmp(fa.strings + fa.functions[n->function].name + 2, text) != 0) return 0;
        node = n->parent;
    }
    return node == 0;
}

static const struct fa_live *sample_of(const void *block)
{
    for (uint64_t slot = 1; slot < REGION(FA_LIVE).used; slot++)
        if (fa.live[slot].address == (uintptr_t)block) return &fa.live[slot];
    return NULL;
}

/* Stacks that are seen once and gone. */
static void churn(uint32_t from, uint32_t count)
{
    static char block[64];
    for (uint32_t i = 0; i < count; i++) {
        run_stack(from + i);
        test_allocate(block, sizeof block);
        test_free(block);
    }
}

static void check_totals(void)
{
    uint64_t bytes = 0, ever = 0, samples = 0;
    for (uint64_t i = 0; i < REGION(FA_SITES).used; i++) {
        bytes += fa.sites[i].held.live_bytes;
        samples += fa.sites[i].held.samples;
        ever += fa.sites[i].total_bytes;
        CHECK(fa.sites[i].node < REGION(FA_NODES).used);
    }
    CHECK_EQUAL(bytes, fa.header->live_bytes);
    CHECK_EQUAL(samples, fa.header->live_samples);
    CHECK_EQUAL(ever, fa.header->samples * sizeof blocks[0]);
    CHECK_EQUAL(fa.header->sweeping, 0);
}

static void live_samples_keep_their_stacks(void)
{
    static uint32_t stack_of[BLOCKS];
    CHECK_EQUAL(test_start(1), FA_OK);
    uint64_t random = 5;
    for (uint32_t round = 1; round <= 60000; round++) {
        int b = (int)(test_random(&random) % BLOCKS);
        if (stack_of[b]) test_free(blocks[b]);
        stack_of[b] = round;
        run_stack(round);
        test_allocate(blocks[b], sizeof blocks[b]);
    }
    CHECK(fa.header->sweeps > 5);
    CHECK_EQUAL(fa.header->losses[FA_LOSS_SITES] + fa.header->losses[FA_LOSS_NODES], 0);
    CHECK(REGION(FA_SITES).used <= 4096);
    for (int b = 0; b < BLOCKS; b++) {
        if (!stack_of[b]) continue;
        const struct fa_live *sample = sample_of(blocks[b]);
        CHECK(sample && is_stack(fa.sites[sample->site].node, stack_of[b]));
        run_stack(stack_of[b]); /* and the same stack is found again, not made anew */
        uint64_t nodes = REGION(FA_NODES).used;
        static char again[64];
        test_allocate(again, sizeof again);
        CHECK_EQUAL(REGION(FA_NODES).used, nodes);
        CHECK_EQUAL(sample_of(again)->site, sample->site);
        test_free(again);
    }
    check_totals();
    fa_stop(0);
}

static void history_and_events_keep_their_stacks(void)
{
    CHECK_EQUAL(test_start(1), FA_OK);
    run_stack(7);
    struct raw_frame frames[FA_MAX_FRAMES];
    uint64_t hash;
    int cut, count = stack_walk_nopy(frames, 64, &hash, &cut);
    lock_begin();
    event_write(FA_EVENT_FAILED_ALLOCATION, 1, 2, stack_intern(frames, count, hash, cut));
    lock_end();
    uint64_t event = REGION(FA_EVENTS).used - 1;
    churn(100000, 40000);
    CHECK(fa.header->sweeps > 3);
    CHECK(is_stack(fa.events[event].node, 7));
    for (uint64_t back = 0; back < REGION(FA_FREED).capacity; back++) {
        uint64_t n = REGION(FA_FREED).used - 1 - back;
        CHECK(is_stack(fa.sites[RING_SLOT(fa.freed, FA_FREED, n)->site].node, 139999u - (uint32_t)back));
    }
    check_totals();
    fa_stop(0);
}

static struct fa_event *failure(uint64_t back)
{
    return RING_SLOT(fa.events, FA_EVENTS, REGION(FA_EVENTS).used - 1 - back);
}

static void failures_at_one_stack_are_one_event(void)
{
    CHECK_EQUAL(test_start(1), FA_OK);
    uint64_t before = REGION(FA_EVENTS).used;
    lock_begin();
    for (uint64_t i = 0; i < 1000; i++) {
        event_write_failure(100 + i % 500, FA_DOMAIN_OBJ, 1);
        event_write_failure(7, FA_DOMAIN_OBJ, 2);
    }
    event_write_failure(9, FA_DOMAIN_MEM, 2);
    lock_end();
    CHECK_EQUAL(REGION(FA_EVENTS).used, before + 3);
    CHECK_EQUAL(failure(2)->a, 599);
    CHECK_EQUAL(failure(2)->b, (uint64_t)999 << 32 | FA_DOMAIN_OBJ);
    CHECK_EQUAL(failure(2)->sequence, before + 1);
    CHECK(failure(2)->time_ns <= failure(1)->time_ns);
    CHECK_EQUAL(failure(1)->b, (uint64_t)999 << 32 | FA_DOMAIN_OBJ);
    CHECK_EQUAL(failure(0)->b, FA_DOMAIN_MEM);
    fa_stop(0);
}

static void a_sample_on_its_way_out_loses_only_its_stack(void)
{
    for (int gone = 0; gone < 2; gone++) {
        CHECK_EQUAL(test_start(1), FA_OK);
        run_stack(9);
        test_allocate(blocks[0], sizeof blocks[0]);
        struct fa_live taken;
        lock_begin();
        CHECK(live_take((uintptr_t)blocks[0], &taken));
        lock_end();
        churn(200000, 20000); /* another thread, while the original works */
        CHECK(fa.header->sweeps);
        lock_begin();
        if (gone) live_forget(&taken);
        else live_restore(&taken);
        lock_end();
        if (gone) CHECK_EQUAL(RING_SLOT(fa.freed, FA_FREED, REGION(FA_FREED).used - 1)->site, 0);
        else CHECK_EQUAL(sample_of(blocks[0])->site, 0);
        check_totals();
        fa_stop(0);
    }
}

static void a_table_full_of_live_stacks_is_not_swept_at_every_sample(void)
{
    static char many[9000][64];
    CHECK_EQUAL(test_start(1), FA_OK);
    for (uint32_t i = 0; i < 9000; i++) {
        run_stack(300000 + i);
        test_allocate(many[i], sizeof many[i]);
    }
    CHECK(fa.header->losses[FA_LOSS_SITES] + fa.header->losses[FA_LOSS_NODES] > 0);
    CHECK(fa.header->sweeps < 10);
    check_totals();
    fa_stop(0);
}

const struct test_case sweep_cases[] = {
    {"live samples keep their stacks", live_samples_keep_their_stacks},
    {"history and events keep their stacks", history_and_events_keep_their_stacks},
    {"failures at one stack are one event", failures_at_one_stack_are_one_event},
    {"a sample on its way out loses only its stack", a_sample_on_its_way_out_loses_only_its_stack},
    {"a table full of live stacks is not swept at every sample", a_table_full_of_live_stacks_is_not_swept_at_every_sample},
    {NULL, NULL},
};
