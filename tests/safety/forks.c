/* Forks where no program should, and fork handlers that allocate: what the test's programs load.
 *
 * No Python.h: the functions are found in the interpreter that loads this library.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

struct allocator { /* PyMemAllocatorEx */
    void *ctx;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *);
};

extern void PyMem_GetAllocator(int, struct allocator *);
extern void PyMem_SetAllocator(int, struct allocator *);
extern void *PyMem_RawMalloc(size_t), *PyMem_RawRealloc(void *, size_t), *PyMem_Malloc(size_t), *PyObject_Malloc(size_t);
extern void PyMem_RawFree(void *), PyMem_Free(void *), PyObject_Free(void *);

/* --- forks; the parent waits for each child ------------------------------------------------ */

#define CODES 64
#define HUNG_AFTER_S 30

static volatile int in_child;
static int codes[CODES];
static volatile int forks, most;
static pthread_t forker; /* the program's own thread: another would be all that is left of the child */

int is_child(void)
{
    return in_child;
}

int exit_codes(int *to)
{
    memcpy(to, codes, sizeof codes);
    return forks;
}

/* From here on, in the thread that calls this, and on the whole. */
void forks_at_most(int limit)
{
    forker = pthread_self();
    most = limit;
}

static int may_fork(void)
{
    return !in_child && forks < most && pthread_equal(pthread_self(), forker);
}

static void fork_and_wait(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        in_child = 1;
        alarm(HUNG_AFTER_S); /* one that hangs is killed: its code tells */
        return;
    }
    while (waitpid(pid, &status, 0) != pid) continue;
    codes[forks++] = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A library's own fork. Whoever waits for the GIL, which this thread holds, has asked for it by then. */
void fork_after(unsigned ms)
{
    usleep(ms * 1000);
    if (may_fork()) fork_and_wait();
}

/* --- inside the allocator that the recorder forwards to ------------------------------------ */

static struct allocator inner[3];
static long calls, every;

static void come_by(void)
{
    if (may_fork() && ++calls % every == 0) fork_and_wait();
}

/* ctx: of the domain, as an index. */
#define INNER(ctx) (&inner[(intptr_t)(ctx)])

static void *forking_malloc(void *ctx, size_t n)
{
    come_by();
    void *block = INNER(ctx)->malloc(INNER(ctx)->ctx, n);
    come_by();
    return block;
}

static void *forking_calloc(void *ctx, size_t count, size_t size)
{
    come_by();
    return INNER(ctx)->calloc(INNER(ctx)->ctx, count, size);
}

static void *forking_realloc(void *ctx, void *block, size_t n)
{
    come_by();
    return INNER(ctx)->realloc(INNER(ctx)->ctx, block, n);
}

static void forking_free(void *ctx, void *block)
{
    come_by();
    INNER(ctx)->free(INNER(ctx)->ctx, block);
}

/* Every so many calls of this domain, one forks, until there have been `limit` (forks_at_most). */
void fork_in_allocator(int domain, long how_often)
{
    struct allocator forking = {(void *)(intptr_t)domain, forking_malloc, forking_calloc, forking_realloc, forking_free};
    every = how_often;
    PyMem_GetAllocator(domain, &inner[domain]);
    PyMem_SetAllocator(domain, &forking);
}

/* --- fork handlers that allocate ------------------------------------------------------------ */

enum { KEPT = 40 };

struct kept {
    void *raw[KEPT], *mem[KEPT], *obj[KEPT];
};

static struct kept over_fork[2]; /* of the handlers registered first, and last */

static void allocate(struct kept *kept)
{
    for (int i = 0; i < KEPT; i++) {
        size_t n = (size_t)i * 97 % 2000 + 1;
        kept->raw[i] = memset(PyMem_RawMalloc(n), i, n);
        kept->mem[i] = memset(PyMem_Malloc(n), i, n);
        kept->obj[i] = memset(PyObject_Malloc(n), i, n);
    }
}

static void release(struct kept *kept)
{
    for (int i = 0; i < KEPT; i++) {
        char *raw = PyMem_RawRealloc(kept->raw[i], 3000);
        if (raw[0] != i || *(char *)kept->mem[i] != i || *(char *)kept->obj[i] != i) abort();
        PyMem_RawFree(raw);
        PyMem_Free(kept->mem[i]);
        PyObject_Free(kept->obj[i]);
    }
}

/* What was allocated before the fork is freed after it, on both sides; and some more comes and goes. */
static void before(struct kept *kept)
{
    if (kept->raw[0]) release(kept);
    allocate(kept);
}

static void after(struct kept *kept)
{
    struct kept more;
    allocate(&more);
    release(kept);
    allocate(kept);
    release(&more);
}

#define HANDLERS(n)                                        \
    static void before_##n(void) { before(&over_fork[n]); } \
    static void after_##n(void) { after(&over_fork[n]); }
HANDLERS(0)
HANDLERS(1)

int allocate_in_handlers(int last)
{
    return last ? pthread_atfork(before_1, after_1, after_1) : pthread_atfork(before_0, after_0, after_0);
}

/* --- a signal handler on top of the recorder itself ------------------------------------------ */

static uintptr_t low, high;

static uintptr_t interrupted_at(const ucontext_t *context)
{
#ifdef __aarch64__
    return context->uc_mcontext.pc;
#else
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#endif
}

static void handle(int number, siginfo_t *unused, void *context)
{
    (void)number, (void)unused;
    uintptr_t at = interrupted_at(context);
    if (at >= low && at < high && may_fork()) fork_and_wait();
}

/* SIGPROF forks where it interrupts code between these addresses. */
void fork_on_top_of(uintptr_t from, uintptr_t to)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART};
    low = from;
    high = to;
    sigaction(SIGPROF, &action, NULL);
}
