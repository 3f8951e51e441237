/* Which task runs: told by CPython as it notes it down.
 *
 * asyncio keeps the running task of each event loop in one dict: entered when a step begins,
 * removed when it ends, replaced around an eagerly started task. Dict watchers (3.12 on) report
 * each change, whatever event loop drives the tasks. When a step begins, the task's context is
 * already the running one, so its scope can be read from there.
 *
 * 3.14 keeps the running task elsewhere, and has context watchers instead: to do with 3.14 support.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fastalloc.h"

#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000

static int on_change(PyDict_WatchEvent event, PyObject *tasks, PyObject *loop, PyObject *task)
{
    (void)tasks;
    (void)loop;
    switch (event) {
    case PyDict_EVENT_ADDED: fa_task_enter(); break;
    case PyDict_EVENT_DELETED: fa_task_leave(); break;
    case PyDict_EVENT_MODIFIED:
        if (task && task != Py_None) fa_follow_context();
        break;
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
