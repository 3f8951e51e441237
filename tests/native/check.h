/* What all native tests share. */
#ifndef TESTS_NATIVE_CHECK_H
#define TESTS_NATIVE_CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "fastalloc.h"
#include "recorder.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

/* Both sides are shown. */
#define CHECK_EQUAL(left, right)                                                                          \
    do {                                                                                                  \
        long long is_ = (long long)(left), wanted_ = (long long)(right);                                  \
        if (is_ != wanted_) {                                                                             \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #left, is_, wanted_);    \
            exit(1);                                                                                      \
        }                                                                                                 \
    } while (0)

/* `value` differs from `expected` by less than 5 standard errors: 1 in 1.7 million fails by chance. */
#define CHECK_NEAR(value, expected, standard_error)                                                            \
    do {                                                                                                       \
        double is_ = (double)(value), wanted_ = (double)(expected), off_ = (is_ - wanted_) / (standard_error);\
        if (!(fabs(off_) < 5)) {                                                                                \
            fprintf(stderr, "%s:%d: %s is %g, not %g: %.1f standard errors off\n", __FILE__, __LINE__, #value, \
                    is_, wanted_, off_);                                                                       \
            exit(1);                                                                                           \
        }                                                                                                      \
    } while (0)

struct test_case {
    const char *name;
    void (*run)(void);
};
/* Each ends with a NULL name. */
extern const struct test_case sampler_cases[], live_cases[], interning_cases[], recording_cases[], thread_cases[], sweep_cases[],
    watcher_cases[], guard_cases[], resident_cases[];

/* fakes.c: stands in for CPython */
extern const char *test_directory;
void fake_stack(int depth, const int *functions, const int *lines); /* of this thread, leaf first; depth -1: none */
void fake_scope(fa_scope scope);                                    /* that the context names */
int fake_pending_call(void); /* makes the pending call that was asked for; 0: none was */
fa_status test_start(uint64_t interval_bytes);
void lock_begin(void); /* fa_lock, for tests of what needs it */
void lock_end(void);

/* What a hook does, less the block: counts, and samples `block`. */
void test_allocate(const void *block, size_t n);
void test_free(const void *block);

static inline uint64_t test_random(uint64_t *state)
{
    *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Dull >> 11;
}

#endif
