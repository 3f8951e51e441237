/* Calls of CPython's allocators in a loop, for counting instructions. Compiled per interpreter. */
#include <Python.h>

#include <stdlib.h>
#include <sys/mman.h>

typedef void *(*allocate_function)(size_t);
typedef void *(*calloc_function)(size_t, size_t);
typedef void *(*realloc_function)(void *, size_t);
typedef void (*free_function)(void *);

static const struct domain {
    const char *name;
    allocate_function allocate;
    calloc_function calloc;
    realloc_function realloc;
    free_function free;
} domains[] = {
    {"obj", PyObject_Malloc, PyObject_Calloc, PyObject_Realloc, PyObject_Free},
    {"mem", PyMem_Malloc, PyMem_Calloc, PyMem_Realloc, PyMem_Free},
    {"raw", PyMem_RawMalloc, PyMem_RawCalloc, PyMem_RawRealloc, PyMem_RawFree},
    {"libc", malloc, calloc, realloc, free}, /* slots of this object: native memory */
};

static const struct domain *domain_named(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(domains[i].name, name) == 0) return &domains[i];
    PyErr_SetString(PyExc_ValueError, "no such domain");
    return NULL;
}

/* scatter(domain, size): leaves pools of this size class half full, so that the loop takes
 * pymalloc's shortest paths, to and fro. */
static PyObject *scatter(PyObject *self, PyObject *arguments)
{
    static void *held[2000]; /* every other one is leaked on purpose */
    const char *name;
    Py_ssize_t size;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "sn", &name, &size)) return NULL;
    const struct domain *domain = domain_named(name);
    if (!domain) return NULL;
    for (int i = 0; i < 2000; i++) held[i] = domain->allocate((size_t)size);
    for (int i = 0; i < 2000; i += 2) domain->free(held[i]);
    Py_RETURN_NONE;
}

/* churn(domain, kind, size, times): "malloc", "calloc": and free. "grow": malloc, realloc to twice
 * the size, free. "shrink": likewise to half of it.
 * "map": mmap and munmap, whatever the domain. */
static PyObject *churn(PyObject *self, PyObject *arguments)
{
    const char *name, *kind;
    Py_ssize_t size, times;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "ssnn", &name, &kind, &size, &times)) return NULL;
    const struct domain *domain = domain_named(name);
    if (!domain) return NULL;
    size_t n = (size_t)size;
    if (strcmp(kind, "malloc") == 0) {
        for (Py_ssize_t i = 0; i < times; i++) domain->free(domain->allocate(n));
    } else if (strcmp(kind, "calloc") == 0) {
        for (Py_ssize_t i = 0; i < times; i++) domain->free(domain->calloc(1, n));
    } else if (strcmp(kind, "map") == 0) {
        for (Py_ssize_t i = 0; i < times; i++)
            munmap(mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), n);
    } else {
        size_t to = strcmp(kind, "grow") == 0 ? n * 2 : n / 2;
        for (Py_ssize_t i = 0; i < times; i++) domain->free(domain->realloc(domain->allocate(n), to));
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"churn", churn, METH_VARARGS, NULL}, {"scatter", scatter, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "churn", .m_methods = methods};

PyMODINIT_FUNC PyInit_churn(void)
{
    return PyModule_Create(&definition);
}
