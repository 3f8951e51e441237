#define _GNU_SOURCE
#include "lost_file.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "recorder.h"

static struct sigaction before_us;
static struct fa_header first_page; /* as it was when the file was whole: tells where regions lie */
static int watching;
static int of_file; /* what is mapped may be lost: a file, with a name or without */
static char replacing;

/* Copies what can still be read. A system call that meets the fault answers EFAULT, and no signal. */
static void save_pages(char *to, const char *from, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        struct iovec local = {to + at, bytes - at}, remote = {(void *)(from + at), bytes - at};
        ssize_t copied = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
        if (copied < 0 && errno != EFAULT) return; /* not allowed here: begin empty */
        at += copied > 0 ? (size_t)copied : FA_PAGE_BYTES - (at % FA_PAGE_BYTES);
    }
}

/* Async-signal-safe. Touches the mapping only when it is memory. */
static int put_memory_in_place(void)
{
    char *old = (char *)fa.header;
    size_t bytes = fa.mapped_bytes;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return -1;
    save_pages(memory, old, bytes);
    int whole = memcmp(memory, FA_MAGIC, 8) == 0;
    if (!whole) {
        memcpy(memory, &first_page, sizeof first_page); /* hooks index by its regions */
        ((struct fa_header *)(void *)memory)->state = FA_STATE_RUNNING;
    }
    fa.path[0] = 0;
    if (mremap(memory, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, old) == MAP_FAILED) {
        munmap(memory, bytes);
        return -1;
    }
    of_file = 0;
    if (!whole) __atomic_store_n(&fa.active, 0, __ATOMIC_RELEASE);
    return 0;
}

static int in_mapping(const void *address)
{
    const char *at = address, *start = (const char *)fa.header;
    return start && at >= start && at < start + fa.mapped_bytes;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    int saved = errno;
    if (info->si_code > 0 && in_mapping(info->si_addr)) {
        while (__atomic_test_and_set(&replacing, __ATOMIC_ACQUIRE)) {} /* a millisecond, another thread */
        int done = !of_file || put_memory_in_place() == 0;
        __atomic_clear(&replacing, __ATOMIC_RELEASE);
        errno = saved;
        if (done) return;
    }
    sigaction(SIGBUS, &before_us, NULL);
    watching = 0;
    if (info->si_code <= 0) raise(number); /* sent by somebody: it comes again when we return */
    errno = saved;
}

void lost_file_watch(void)
{
    first_page = *fa.header;
    of_file = 1;
    if (watching) return;
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    watching = sigaction(SIGBUS, &ours, &before_us) == 0;
}

void lost_file_is_memory(void)
{
    of_file = 0;
}

void lost_file_unwatch(void)
{
    struct sigaction now;
    if (!watching || sigaction(SIGBUS, NULL, &now) != 0 || now.sa_sigaction != on_fault) return;
    sigaction(SIGBUS, &before_us, NULL);
    watching = 0;
}
