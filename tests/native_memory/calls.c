/* A library as an extension module might be: calls the C library's allocators a known number of times. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

/* A variable that holds a function's address: a slot that is no linkage table's. */
void *(*volatile malloc_pointer)(size_t) = malloc;
void (*volatile free_pointer)(void *) = free;

void *call_malloc(size_t n) { return malloc(n); }
void *call_malloc_pointer(size_t n) { return malloc_pointer(n); }
void call_free_pointer(void *block) { free_pointer(block); }
void *call_calloc(size_t count, size_t size) { return calloc(count, size); }
void *call_realloc(void *block, size_t n) { return realloc(block, n); }
void *call_reallocarray(void *block, size_t count, size_t size) { return reallocarray(block, count, size); }
void call_free(void *block) { free(block); }
void *call_memalign(size_t alignment, size_t n) { return memalign(alignment, n); }
void *call_aligned_alloc(size_t alignment, size_t n) { return aligned_alloc(alignment, n); }
void *call_valloc(size_t n) { return valloc(n); }
void *call_pvalloc(size_t n) { return pvalloc(n); }
void *call_mmap(void *address, size_t n, int protection, int flags, int file) { return mmap(address, n, protection, flags, file, 0); }
int call_munmap(void *address, size_t n) { return munmap(address, n); }
void *call_mremap(void *address, size_t old, size_t n, int flags, void *target) { return mremap(address, old, n, flags, target); }

void *call_posix_memalign(size_t alignment, size_t n)
{
    void *block = NULL;
    return posix_memalign(&block, alignment, n) == 0 ? block : NULL;
}

/* errno after a call that succeeds, when it was `before`. */
int errno_after(int before, size_t n)
{
    errno = before;
    void *block = malloc(n);
    void *larger = realloc(block, 2 * n);
    void *mapped = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(mapped, n);
    free(larger);
    return errno;
}

/* errno after a request that no machine can serve. */
int errno_of_failure(size_t n)
{
    errno = 0;
    void *block = malloc(n);
    return block ? 0 : errno;
}

/* Requests that fail, and requests that are turned down for their alignment. */
void fail(size_t n, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *volatile block = malloc(n);
        void *refused = NULL;
        if (block || posix_memalign(&refused, 3, 100) == 0) abort();
    }
}

void churn(size_t n, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *volatile block = malloc(n);
        free(block);
    }
}

struct work {
    size_t n, count;
    void **blocks;
};

static void *allocate_all(void *data)
{
    struct work *work = data;
    for (size_t i = 0; i < work->count; i++) work->blocks[i] = malloc(work->n);
    return NULL;
}

/* In a thread that Python knows nothing of, and that has ended on return. */
void allocate_in_foreign_thread(size_t n, size_t count, void **blocks)
{
    struct work work = {n, count, blocks};
    pthread_t thread;
    if (pthread_create(&thread, NULL, allocate_all, &work) != 0) abort();
    pthread_join(thread, NULL);
}

/* PTHREAD_STACK_MIN, without what glibc adds to it by itself on some processors. */
#ifdef __aarch64__
#define SMALLEST_STACK 131072
#else
#define SMALLEST_STACK 16384
#endif

/* The same with the smallest C stack that a thread may have. */
void allocate_in_small_thread(size_t n)
{
    void *block = NULL;
    struct work work = {n, 1, &block};
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstacksize(&attributes, SMALLEST_STACK) != 0) abort();
    if (pthread_create(&thread, &attributes, allocate_all, &work) != 0) abort();
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    free(block);
}

/* Blocks of changing sizes, each filled with a mark of its own; returns how many were damaged. */
static size_t storm_of(uint64_t seed, size_t times)
{
    enum { BLOCKS = 200 };
    unsigned char *blocks[BLOCKS] = {NULL};
    size_t sizes[BLOCKS] = {0}, damaged = 0;
    unsigned char marks[BLOCKS] = {0};
    for (size_t i = 0; i < times; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        size_t k = (seed >> 33) % BLOCKS, n = 1 + (seed >> 40) % ((seed >> 20) % 50 ? 700 : 300000);
        for (size_t j = 0; j < sizes[k]; j += 1 + sizes[k] / 16)
            damaged += blocks[k][j] != marks[k];
        if ((seed >> 60) % 4 == 0) {
            free(blocks[k]);
            blocks[k] = NULL;
            sizes[k] = 0;
            continue;
        }
        switch ((seed >> 57) % 4) {
        case 0: blocks[k] = realloc(blocks[k], n); break;
        case 1: free(blocks[k]); blocks[k] = calloc(1, n); break;
        case 2: free(blocks[k]); blocks[k] = aligned_alloc(64, (n + 63) & ~63ul); break;
        default: free(blocks[k]); blocks[k] = malloc(n);
        }
        if (!blocks[k]) abort();
        sizes[k] = n;
        marks[k] = (unsigned char)(seed >> 11);
        memset(blocks[k], marks[k], n);
        if (i % 50 == 0) {
            char *mapped = mmap(NULL, 5 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (mapped == MAP_FAILED) abort();
            mapped[0] = 1;
            munmap(mapped + (1 << 12), 1 << 12);
            munmap(mapped, 1 << 12);
            munmap(mapped + (2 << 12), 3 << 12);
        }
    }
    for (size_t k = 0; k < BLOCKS; k++) free(blocks[k]);
    return damaged;
}

size_t storm(uint64_t seed, size_t times) { return storm_of(seed, times); }

static void *storm_thread(void *data)
{
    return (void *)storm_of((uintptr_t)data, 3000);
}

size_t storm_in_foreign_threads(int threads)
{
    pthread_t all[16];
    size_t damaged = 0;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&all[i], NULL, storm_thread, (void *)(uintptr_t)(i + 77)) != 0) abort();
    for (int i = 0; i < threads; i++) {
        void *result;
        pthread_join(all[i], &result);
        damaged += (size_t)result;
    }
    return damaged;
}

/* Signals whose handler maps and unmaps memory, while threads allocate. (A handler must
 * not call malloc itself: the C library's own lock would wait for itself.) */
static volatile sig_atomic_t handled;

static void handle(int number)
{
    (void)number;
    int saved = errno;
    char *mapped = mmap(NULL, 8 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) abort();
    munmap(mapped + (2 << 12), 2 << 12);
    munmap(mapped, 2 << 12);
    munmap(mapped + (4 << 12), 4 << 12);
    handled++;
    errno = saved;
}

void begin_signals(int microseconds)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, microseconds}, {0, microseconds}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

/* How many were handled. The handler stays: one may be on its way. */
size_t end_signals(void)
{
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    return (size_t)handled;
}

size_t storm_under_signals(double seconds)
{
    struct timespec begun, now;
    size_t damaged = 0;
    begin_signals(200);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do {
        damaged += storm_of(99, 500);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - begun.tv_sec) + 1e-9 * (double)(now.tv_nsec - begun.tv_nsec) < seconds);
    size_t all = end_signals();
    return damaged ? 0 : all;
}

/* What RTLD_NEXT finds from here: depends on who is asking. */
void *next_of(const char *name) { return dlsym(RTLD_NEXT, name); }
/* By its bare name: found through this library's own RUNPATH only. */
void *open_by_name(const char *name) { return dlopen(name, RTLD_NOW); }
