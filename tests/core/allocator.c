/* Calls CPython's allocators a known number of times, so that tests can tell exact numbers.
 *
 * No Python.h: the functions are found in the interpreter that loads this library. Through
 * ctypes.PyDLL calls hold the GIL, through ctypes.CDLL they do not.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DOMAIN(name)                                  \
    extern void *Py##name##Malloc(size_t);            \
    extern void *Py##name##Calloc(size_t, size_t);    \
    extern void *Py##name##Realloc(void *, size_t);   \
    extern void Py##name##Free(void *);

DOMAIN(Mem_Raw)
DOMAIN(Mem_)
DOMAIN(Object_)

static const struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
} domains[] = {
    {PyMem_RawMalloc, PyMem_RawCalloc, PyMem_RawRealloc, PyMem_RawFree},
    {PyMem_Malloc, PyMem_Calloc, PyMem_Realloc, PyMem_Free},
    {PyObject_Malloc, PyObject_Calloc, PyObject_Realloc, PyObject_Free},
};

void *allocate(int domain, size_t size)
{
    return domains[domain].malloc(size);
}

void *allocate_zeroed(int domain, size_t count, size_t size)
{
    return domains[domain].calloc(count, size);
}

void *reallocate(int domain, void *block, size_t size)
{
    return domains[domain].realloc(block, size);
}

void release(int domain, void *block)
{
    domains[domain].free(block);
}

/* `count` blocks, kept in `blocks`. */
void allocate_many(int domain, size_t size, size_t count, void **blocks)
{
    for (size_t i = 0; i < count; i++) blocks[i] = domains[domain].malloc(size);
}

void allocate_zeroed_many(int domain, size_t size, size_t count, void **blocks)
{
    for (size_t i = 0; i < count; i++) blocks[i] = domains[domain].calloc(1, size);
}

void reallocate_many(int domain, size_t size, size_t count, void **blocks)
{
    for (size_t i = 0; i < count; i++) blocks[i] = domains[domain].realloc(blocks[i], size);
}

void release_many(int domain, size_t count, void **blocks)
{
    for (size_t i = 0; i < count; i++) domains[domain].free(blocks[i]);
}

/* `count` blocks, each freed at once. */
void churn(int domain, size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++) domains[domain].free(domains[domain].malloc(size));
}

/* Random calls on 64 slots whose contents are checked; returns how many blocks were damaged. */
size_t storm(int domain, uint64_t seed, size_t calls)
{
    struct { unsigned char *block; size_t size; } slots[64] = {{0}};
    size_t damaged = 0;
    uint64_t x = seed * 0x9E3779B97F4A7C15ull + 1;
    for (size_t i = 0; i < calls; i++) {
        x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
        uint64_t random = x * 0x2545F4914F6CDD1Dull >> 16;
        size_t at = random & 63, size = (random >> 6) & 3 ? (random >> 8) % 700 : (random >> 8) % 20000;
        unsigned char *block = slots[at].block, mark = (unsigned char)(at + 1);
        size_t old = slots[at].size;
        if (block)
            for (size_t j = 0; j < old; j += 61) damaged += block[j] != mark;
        if (block && (random >> 40) % 3 == 0) {
            domains[domain].free(block);
            slots[at].block = NULL, slots[at].size = 0;
            continue;
        }
        if ((random >> 44) % 5 == 0 && !block) {
            block = domains[domain].calloc(1, size);
            for (size_t j = 0; block && j < size; j += 61) damaged += block[j] != 0;
        } else {
            block = domains[domain].realloc(block, size);
            for (size_t j = 0; block && j < size && j < old; j += 61) damaged += block[j] != mark;
        }
        if (block) memset(block, mark, size);
        slots[at].block = block, slots[at].size = block ? size : 0;
    }
    for (size_t i = 0; i < 64; i++) domains[domain].free(slots[i].block);
    return damaged;
}

/* Threads that Python knows nothing of, in RAW. */
struct job {
    uint64_t seed;
    size_t calls;
    size_t damaged;
};

static void *run_job(void *argument)
{
    struct job *job = argument;
    job->damaged = storm(0, job->seed, job->calls);
    return NULL;
}

size_t storm_in_foreign_threads(int threads, size_t calls)
{
    pthread_t ids[64];
    struct job jobs[64];
    size_t damaged = 0;
    int started = 0;
    for (; started < threads && started < 64; started++) {
        jobs[started] = (struct job){(uint64_t)started + 1, calls, 0};
        if (pthread_create(&ids[started], NULL, run_job, &jobs[started]) != 0) break;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
        damaged += jobs[i].damaged;
    }
    return damaged;
}

/* A thread that Python knows nothing of allocates and exits: `count` blocks of `size` bytes. */
static void *allocate_in_thread(void *argument)
{
    size_t *wanted = argument;
    for (size_t i = 0; i < wanted[1]; i++) PyMem_RawFree(PyMem_RawMalloc(wanted[0]));
    return NULL;
}

void churn_in_foreign_thread(size_t size, size_t count)
{
    pthread_t id;
    size_t wanted[2] = {size, count};
    if (pthread_create(&id, NULL, allocate_in_thread, wanted) == 0) pthread_join(id, NULL);
}

/* As a library that was there before the recorder: in each forked child it frees blocks, before the recorder's
 * own handler has run. */
static void **given;
static size_t given_count;

static void free_given(void)
{
    for (size_t i = 0; i < given_count; i++) PyMem_RawFree(given[i]);
    PyMem_RawFree(PyMem_RawMalloc(4 << 20));
}

int watch_forks(void)
{
    return pthread_atfork(NULL, NULL, free_given);
}

void free_in_children(void **blocks, size_t count)
{
    given = blocks;
    given_count = count;
}
