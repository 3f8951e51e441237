/* Which task runs: told by CPython as it goes from one to another.
 *
 * 3.14 on: context watchers report every change of the running context, whatever makes it: a task's
 * step, a callback, a thread pool's work item. Nothing else need be known. (Not greenlets, which
 * change the thread's context behind the interpreter's back.)
 *
 * 3.12, 3.13: asyncio keeps the running task of each event loop in one dict: entered when a step begins,
 * removed when it ends, replaced around an eagerly started task. Dict watchers (3.12 on) report
 * each change, whatever event loop drives the tasks. When a step begins, the task's context is
 * already the running one, so its scope can be read from there.
 */
#include "cpython_watchers.h"
#include "fastalloc.h"

#if TELLS_OF_CONTEXTS

static int on_switch(PyContextEvent event, PyObject *context)
{
    (void)context; /* it is the running one already */
    if (event == Py_CONTEXT_SWITCHED) fa_follow_context();
    return 0;
}

int fa_watch_contexts(void)
{
    static int watcher = -1;
    if (watcher < 0) watcher = PyContext_AddWatcher(on_switch);
    if (watcher < 0) PyErr_Clear();
    return watcher < 0 ? -1 : 0;
}

#else

int fa_watch_contexts(void)
{
    return -1;
}

#endif

#if TELLS_OF_DICTS_ONLY

/* Tasks that wait while one that they started eagerly makes its first steps, innermost last.
 *
 *   noted:    P        E (first steps) P
 *   context:  P        P | E ......... E | P       the note runs ahead of the context at the end,
 *                                                  so P's scope is remembered, not read */
#define EAGER_DEPTH 32
static __thread struct {
    const void *task;
    fa_scope scope;
} waiting[EAGER_DEPTH];
static __thread int depth;

static void on_swap(const void *before, const void *task)
{
    if (depth > 0 && waiting[depth - 1].task == task) {
        depth--;
        fa_task_resume(waiting[depth].scope);
    } else if (depth < EAGER_DEPTH) {
        waiting[depth].task = before;
        waiting[depth].scope = fa_present_scope();
        depth++;
    }
}

static int on_change(PyDict_WatchEvent event, PyObject *tasks, PyObject *loop, PyObject *task)
{
    switch (event) {
    case PyDict_EVENT_ADDED:
        depth = 0;
        fa_task_enter();
        break;
    case PyDict_EVENT_DELETED: fa_task_leave(); break;
    case PyDict_EVENT_MODIFIED: on_swap(PyDict_GetItem(tasks, loop), task); break; /* not changed yet */
    default: break;
    }
    return 0;
}

int fa_watch_tasks(void *current_tasks)
{
    static int watcher = -1;
    if (watcher < 0) watcher = PyDict_AddWatcher(on_change);
    if (watcher < 0 || PyDict_Watch(watcher, current_tasks) != 0) {
        PyErr_Clear();
        return -1;
    }
    return 0;
}

#else

int fa_watch_tasks(void *current_tasks)
{
    (void)current_tasks;
    return -1;
}

#endif
