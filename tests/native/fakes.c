/* Stands in for CPython and the hooks: stacks, names and scopes are what the test says. */
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "hooks.h"
#include "live.h"
#include "sample.h"
#include "stack.h"
#include "threads.h"

const char *test_directory = "/tmp";

/* --- stacks: frame i of function f has code (void *)(4096 * (f + 1)) ----------------------- */

static __thread struct raw_frame fake_frames[FA_MAX_FRAMES + 50];
static __thread int fake_depth = -1;
static __thread fa_scope scope_of_context;

void fake_stack(int depth, const int *functions, const int *lines)
{
    fake_depth = depth;
    for (int i = 0; i < depth; i++)
        fake_frames[i] = (struct raw_frame){
            .code = (const void *)(uintptr_t)(4096 * (functions[i] + 1)),
            .identity = (uint64_t)functions[i],
            .lasti = lines[i] * 2,
        };
}

int stack_walk_nopy(struct raw_frame *frames, int capacity, uint64_t *hash, int *cut)
{
    *cut = fake_depth > capacity;
    int count = fake_depth < capacity ? fake_depth : capacity;
    uint64_t mixed = 1;
    for (int i = 0; i < count; i++) {
        frames[i] = fake_frames[i];
        mixed = (mixed ^ (uintptr_t)frames[i].code) * 0x9FB21C651E98DF25ull;
        mixed = (mixed ^ (uint64_t)frames[i].lasti) * 0x9FB21C651E98DF25ull;
    }
    *hash = mixed + (uint64_t)*cut;
    return count;
}

int stack_has_python_nopy(void)
{
    return fake_depth >= 0;
}

uintptr_t stack_native_limit_nopy(void)
{
    return 0;
}

int32_t stack_line_nopy(const struct raw_frame *frame)
{
    return frame->lasti / 2;
}

void stack_names_nopy(const struct raw_frame *frame, struct code_names *names)
{
    int function = (int)((uintptr_t)frame->code / 4096 - 1);
    names->function_bytes = (size_t)snprintf(names->function, sizeof names->function, "function_%d", function);
    names->file_bytes = (size_t)snprintf(names->file, sizeof names->file, "file_%d.py", function % 7);
    names->first_line = function;
    names->line_table_hash = (uint32_t)function * 31;
}

const void *stack_context_nopy(void)
{
    return &scope_of_context;
}

void fake_scope(fa_scope scope)
{
    scope_of_context = scope;
}

fa_scope fa_context_scope(void)
{
    return scope_of_context;
}

/* --- hooks ---------------------------------------------------------------------------------- */

void hooks_set_level(int level)
{
    (void)level;
}

enum fa_free_design hooks_design(void)
{
    return FA_FREE_DIVERT;
}

int hooks_displaced(void)
{
    return 0;
}

void hooks_call_soon(int (*function)(void *))
{
    (void)function;
}

int hooks_gil_held(void)
{
    return 1;
}

void hooks_order_stores(void)
{
}

static int (*pending)(void *);

int hooks_python_has_threads(void)
{
    return 1;
}

void hooks_child(void)
{
}

uintptr_t hooks_frame(void)
{
    return 0;
}

int hooks_call_after_fork(int (*function)(void *))
{
    __atomic_store_n(&pending, function, __ATOMIC_SEQ_CST);
    return 0;
}

int fake_pending_call(void)
{
    int (*function)(void *) = __atomic_exchange_n(&pending, NULL, __ATOMIC_SEQ_CST);
    if (function) function(NULL);
    return function != NULL;
}

const char *fa_unsupported(void)
{
    return NULL;
}

void test_allocate(const void *block, size_t n)
{
    struct fa_thread *thread = fa_tls.slot;
    /* Relaxed: readers of a thread's counters look at them while it counts. */
    __atomic_store_n(&thread->count, __atomic_load_n(&thread->count, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
    int64_t left = __atomic_load_n(&thread->left, __ATOMIC_RELAXED) - (int64_t)n;
    __atomic_store_n(&thread->left, left, __ATOMIC_RELAXED);
    if (left >= 0) return;
    uint64_t interval = sample_due(n);
    if (interval) sample_take(block, n, interval, FA_DOMAIN_RAW);
}

void test_free(const void *block)
{
    if (live_maybe(block)) sample_freed(block);
}

void hooks_with_original_objects(void (*call)(void *), void *argument)
{
    call(argument);
}

/* --- a recording ------------------------------------------------------------------------------ */

fa_status test_start(uint64_t interval_bytes)
{
    struct fa_config config = {
        .directory = test_directory,
        .options = "{\"test\": 1}",
        .mode = FA_MODE_LIGHT,
        .interval_bytes = interval_bytes,
        .max_frames = 64,
        .scale = 1,
        .python_version = 0x030b07f0,
    };
    return fa_start(&config);
}

void lock_begin(void)
{
    fa_lock();
}

void lock_end(void)
{
    fa_unlock();
}
