/* A signal that asks for a dump. The handler counts and wakes the watcher, no more.
 *
 * Installed in C, so that it also takes note while Python is stuck, from whatever thread the recording
 * was started, and stays noted where a server sets its workers' handlers anew: `dump_signal_keep` looks
 * now and then. Whatever handler is found is called as well. */
#define _GNU_SOURCE
#include "dump_signal.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "fastalloc.h"
#include "watcher.h"

static int number; /* 0: none */
static struct sigaction before;
static uint32_t received;
static __thread int inside; /* a handler before us may be one that calls us in its turn */

static void call_handler_before(int signal, siginfo_t *info, void *context)
{
    if (before.sa_flags & SA_SIGINFO) {
        if (before.sa_sigaction) before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    }
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    if (inside) return;
    int error = errno;
    inside = 1;
    __atomic_fetch_add(&received, 1, __ATOMIC_RELAXED);
    watcher_raise(FA_REASON_DUMP);
    call_handler_before(signal, info, context);
    inside = 0;
    errno = error;
}

static int is_free(const struct sigaction *action)
{
    return !(action->sa_flags & SA_SIGINFO) && (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN);
}

static int take(void)
{
    struct sigaction found;
    if (sigaction(number, NULL, &found) != 0) return -1;
    if (found.sa_flags & SA_SIGINFO && found.sa_sigaction == on_signal) return 0;
    /* The program's own handler wants its system calls interrupted, or not, as it said itself. */
    struct sigaction ours = {.sa_flags = SA_RESTART};
    if (!is_free(&found)) ours = found;
    ours.sa_flags |= SA_SIGINFO | SA_ONSTACK;
    ours.sa_sigaction = on_signal;
    before = found;
    return sigaction(number, &ours, NULL);
}

fa_status fa_dump_signal(int wanted)
{
    number = wanted;
    return take() == 0 ? FA_OK : FA_ERROR_SYSTEM;
}

void dump_signal_keep(void)
{
    if (number) take();
}

uint32_t fa_dump_signals(void)
{
    return __atomic_exchange_n(&received, 0, __ATOMIC_RELAXED);
}
