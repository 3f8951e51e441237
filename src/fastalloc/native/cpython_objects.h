/* How to visit every object that the garbage collector tracks, without a list of them.
 *
 *   3.11 to 3.13   by the collector's own lists, as gc.get_objects() goes through them, only reading
 *   3.14 on        PyUnstable_GC_VisitObjects, which counts a reference of each object up and down: in a
 *                  forked child that writes to every page it shares with its parent (VISITING_WRITES)
 *
 * The visitor neither allocates nor frees, so no collection can begin meanwhile. */
#ifndef FA_CPYTHON_OBJECTS_H
#define FA_CPYTHON_OBJECTS_H

#define Py_BUILD_CORE 1
#include <Python.h>

#if PY_VERSION_HEX >= 0x030e0000 || defined(Py_GIL_DISABLED)
#define VISITING_WRITES 1

static inline void visit_objects(int (*visit)(PyObject *, void *), void *state)
{
    PyUnstable_GC_VisitObjects(visit, state);
}

#else
#define VISITING_WRITES 0

#include <internal/pycore_gc.h>
#include <internal/pycore_interp.h>

static inline int visit_list(PyGC_Head *list, int (*visit)(PyObject *, void *), void *state)
{
    for (PyGC_Head *at = _PyGCHead_NEXT(list); at != list; at = _PyGCHead_NEXT(at))
        if (!visit((PyObject *)(at + 1), state)) return 0;
    return 1;
}

static inline void visit_objects(int (*visit)(PyObject *, void *), void *state)
{
    struct _gc_runtime_state *gc = &PyInterpreterState_Get()->gc;
    for (int generation = 0; generation < NUM_GENERATIONS; generation++)
        if (!visit_list(&gc->generations[generation].head, visit, state)) return;
    visit_list(&gc->permanent_generation.head, visit, state);
}

#endif
#endif
