# The door's C side, line for line: native/fastalloc.h says what each call does and costs.
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "fastalloc.h":
    ctypedef enum fa_status:
        FA_OK
        FA_ERROR_SYSTEM
        FA_ERROR_RUNNING
        FA_ERROR_STOPPED
        FA_ERROR_UNSUPPORTED
        FA_ERROR_ARGUMENT

    struct fa_config:
        const char *directory
        const char *options
        uint32_t mode
        uint64_t interval_bytes
        uint32_t max_frames
        uint32_t scale
        const char *cgroup_usage_path
        uint64_t limit_bytes
        uint32_t limit_of_cgroup
        uint32_t python_version

    struct fa_header:
        uint32_t pid
        uint32_t mode
        uint32_t state
        uint32_t control
        uint32_t off
        uint32_t own_cpu_millionths
        uint64_t own_cpu_ns
        uint32_t free_design
        uint64_t interval_bytes
        uint64_t live_bytes
        uint64_t samples
        uint64_t rss_bytes
        uint64_t cgroup_bytes
        uint64_t limit_bytes

    int FA_MAX_FRAMES
    ctypedef uint32_t fa_scope

    const char *fa_unsupported()
    fa_status fa_start(const fa_config *config)
    fa_status fa_stop(int at_exit)
    fa_status fa_set_mode(uint32_t mode, uint64_t interval_bytes)
    const char *fa_error_step()
    int fa_is_active()
    int fa_hooks_displaced()

    uint32_t fa_control()
    int fa_control_replace(uint32_t old, uint32_t new)
    void fa_note_off(uint32_t off)
    void fa_note_own_cpu(uint32_t millionths)
    void fa_add_own_cpu(uint64_t ns)
    void fa_note_overhead(uint32_t millionths, uint64_t interval_bytes)
    void fa_note_breaker(const char *layer, size_t layer_bytes, int is_open)

    const fa_header *fa_get_header "fa_header"()
    const char *fa_recording_path()
    void fa_settle()
    uint64_t fa_file_bytes()
    fa_status fa_copy_recording(char *to, size_t bytes)
    void fa_thread_totals(uint64_t *count, uint64_t *bytes)

    void fa_watch_scopes(void *scope_type, size_t offset, void *context_variable, int64_t hash)
    fa_scope fa_context_scope()
    fa_scope fa_switch_scope(fa_scope scope)
    void fa_follow_context()
    void fa_task_enter()
    void fa_task_leave()
    struct fa_step:
        fa_scope outer
        const void *ignored_context
    fa_step fa_step_begin(fa_scope scope)
    void fa_step_end(fa_step step)
    int fa_watch_tasks(void *current_tasks)

    fa_scope fa_span_open(fa_scope parent, const char *name, size_t name_bytes,
                          const char *attributes, size_t attributes_bytes)
    fa_scope fa_phase_open(fa_scope parent, const char *name, size_t name_bytes, int quiet)
    void fa_scope_rename(fa_scope scope, const char *name, size_t name_bytes)
    void fa_scope_close(fa_scope scope)
    void fa_scope_release(fa_scope scope)
    uint64_t fa_scope_span_id(fa_scope scope)
    ctypedef struct fa_totals "struct fa_scope_totals":
        uint64_t duration_ns
        uint64_t count
        uint64_t bytes
        int64_t live_change_bytes
        uint64_t held_bytes
        uint64_t peak_bytes
    int fa_scope_totals(fa_scope scope, fa_totals *totals)
    void fa_checkpoint(const char *name, size_t name_bytes)
    void fa_set_process_phase(const char *name, size_t name_bytes)
    void fa_set_thread_name(uint32_t tid, const char *name, size_t name_bytes)
