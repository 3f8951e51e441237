/* What the running version of CPython can tell as it happens. */
#ifndef FA_CPYTHON_WATCHERS_H
#define FA_CPYTHON_WATCHERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Of each change of the running context: PyContext_AddWatcher. */
#define TELLS_OF_CONTEXTS (PY_VERSION_HEX >= 0x030e0000)

/* Of each change of a dict: PyDict_AddWatcher. Only needed where contexts are not told of. */
#define TELLS_OF_DICTS_ONLY (PY_VERSION_HEX >= 0x030c0000 && !TELLS_OF_CONTEXTS)

#endif
