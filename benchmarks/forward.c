/* Hooks that do nothing but forward: the floor for everything that is built with PyMem_SetAllocator.
 * install("all"): every function of every domain, as everybody else does.
 * install("ours"): malloc, calloc and realloc of OBJ and MEM, and all of RAW, as fastalloc hooks them.
 * install("raw"): all of RAW alone, as fastalloc does in standby. */
#include <Python.h>

static PyMemAllocatorEx original[3];

#define FORWARD(domain)                                                                                   \
    static void *malloc_##domain(void *ctx, size_t n) { return original[domain].malloc(ctx, n); }         \
    static void *calloc_##domain(void *ctx, size_t m, size_t n) { return original[domain].calloc(ctx, m, n); } \
    static void *realloc_##domain(void *ctx, void *p, size_t n) { return original[domain].realloc(ctx, p, n); } \
    static void free_##domain(void *ctx, void *p) { original[domain].free(ctx, p); }

FORWARD(0)
FORWARD(1)
FORWARD(2)

#define HOOKS(domain) {NULL, malloc_##domain, calloc_##domain, realloc_##domain, free_##domain}

static PyObject *install(PyObject *self, PyObject *what)
{
    PyMemAllocatorEx hooks[3] = {HOOKS(0), HOOKS(1), HOOKS(2)};
    int all = PyUnicode_CompareWithASCIIString(what, "all") == 0;
    int raw = PyUnicode_CompareWithASCIIString(what, "raw") == 0;
    (void)self;
    for (int domain = 0; domain < (raw ? 1 : 3); domain++) {
        PyMem_GetAllocator((PyMemAllocatorDomain)domain, &original[domain]);
        hooks[domain].ctx = original[domain].ctx;
        if (!all && domain > 0) hooks[domain].free = original[domain].free;
        PyMem_SetAllocator((PyMemAllocatorDomain)domain, &hooks[domain]);
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"install", install, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "forward", .m_methods = methods};

PyMODINIT_FUNC PyInit_forward(void)
{
    return PyModule_Create(&definition);
}
