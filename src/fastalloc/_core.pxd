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

    enum:
        FA_LIMITS
    struct fa_limit:
        uint64_t bytes
        uint32_t kind
        const char *usage_path
        const char *path

    enum:
        FA_MODE_LIGHT

    struct fa_config:
        const char *directory
        const char *options
        uint32_t mode
        uint64_t interval_bytes
        uint32_t max_frames
        uint32_t scale
        const char *cgroup_usage_path
        const fa_limit *limits
        uint32_t limit_count
        uint32_t summary_percent
        uint32_t guard_percent
        uint32_t guard_rearm_percent
        uint32_t standby_light_percent
        uint32_t standby_aggressive_percent
        uint64_t guard_cooldown_ns
        uint32_t python_version
        uint32_t in_memory
        const char *oom_events_path
        uint64_t keep_free_bytes
        uint32_t native
        uint32_t native_frames

    struct fa_resident:
        uint64_t time_ns
        uint64_t anon_bytes
        uint64_t file_bytes
        uint64_t shmem_bytes
        uint64_t arena_bytes
        uint64_t arena_live_bytes
        uint64_t malloc_live_bytes
        uint64_t malloc_free_bytes
        uint64_t malloc_free_count
        uint64_t own_anon_bytes
        uint64_t own_file_bytes
        uint64_t own_shmem_bytes

    struct fa_look:
        fa_resident found
    void fa_look_begin(fa_look *look) nogil
    void fa_look_at_arenas(fa_look *look)
    void fa_look_end(fa_look *look) nogil

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
        uint64_t limit_usage_bytes
        uint32_t limit_index
        uint64_t start_time_ns
        uint32_t python_version
        uint32_t max_frames
        uint32_t layout_version
        uint64_t high_water_bytes
        uint64_t high_water_ns
        uint64_t freed
        uint64_t own_cpu_ns
        uint32_t guard_state
        uint32_t guard_trips
        uint32_t guard_percent
        uint32_t summary_percent
        uint64_t guard_ns
        uint64_t guard_usage_bytes
        uint64_t guard_size
        uint64_t forked_ns
        uint32_t dumps
        uint64_t losses[64]

    int FA_MAX_FRAMES
    int FA_MAX_NATIVE_FRAMES
    int FA_LOSS_COUNT
    int FA_STATE_RUNNING
    ctypedef uint32_t fa_scope

    const char *fa_unsupported()
    fa_status fa_start(const fa_config *config)
    fa_status fa_stop(int at_exit)
    fa_status fa_set_mode(uint32_t mode, uint64_t interval_bytes)
    void fa_note_exit(uint32_t kind, const char *name, size_t name_bytes)
    const char *fa_error_step()
    int fa_is_active()
    int fa_hooks_displaced()
    int fa_native_is_on()
    const char *fa_native_reason()
    const char *fa_native_frames_reason()
    uint32_t fa_native_slots()
    void fa_native_look()
    void fa_native_prepare() nogil
    void fa_native_wait() nogil

    uint32_t fa_control()
    int fa_control_replace(uint32_t old, uint32_t new)
    void fa_note_off(uint32_t off)
    void fa_note_own_cpu(uint32_t millionths)
    void fa_note_overhead(uint32_t millionths, uint64_t interval_bytes)
    void fa_note_breaker(const char *layer, size_t layer_bytes, int is_open)
    ctypedef uint64_t (*fa_work)(uint32_t reasons) noexcept
    void fa_guard_stop_tracking()
    void fa_guard_rearm()
    int fa_guard_has_stopped()
    uint32_t fa_guard_mode()
    uint32_t fa_guard_usages(uint64_t *used, uint64_t *limits)
    size_t fa_guard_frame(char *to, size_t capacity)
    void fa_set_work(fa_work work)
    void fa_work_due(uint64_t delay_ns)
    int fa_watcher_join(uint64_t wait_ns) nogil
    int fa_watcher_restart()
    void fa_watcher_restart_soon()

    const fa_header *fa_get_header "fa_header"()
    const char *fa_recording_path()
    void fa_settle()
    struct fa_thread:
        pass
    fa_thread *fa_leave_out()
    void fa_take_in(fa_thread *slot)
    fa_status fa_to_file()
    uint64_t fa_file_bytes()
    fa_status fa_copy_recording(char *to, size_t bytes)
    int FA_DOMAIN_COUNT
    void fa_live_by_domain(uint64_t *bytes)
    void fa_thread_totals(uint64_t *count, uint64_t *bytes)

    void fa_watch_scopes(void *scope_type, size_t offset, void *context_variable, int64_t hash)
    fa_scope FA_SCOPE_UNKNOWN
    fa_scope fa_context_scope()
    fa_scope fa_scope_in(const void *context)
    fa_scope fa_switch_scope(fa_scope scope)
    void fa_follow_context()
    fa_scope fa_present_scope()
    const void *fa_context()
    void fa_end_stacks_at(const void *caller, const void *callee)
    void fa_task_enter()
    void fa_task_leave()
    struct fa_step:
        fa_scope outer
        const void *ignored_context
    fa_step fa_step_begin(fa_scope scope)
    void fa_step_end(fa_step step)
    int fa_watch_contexts()
    int fa_watch_tasks(void *current_tasks)

    fa_scope fa_span_open(fa_scope parent, const char *name, size_t name_bytes,
                          const char *attributes, size_t attributes_bytes)
    fa_scope fa_phase_open(fa_scope parent, const char *name, size_t name_bytes, int quiet)
    void fa_scope_rename(fa_scope scope, const char *name, size_t name_bytes)
    void fa_scope_release(fa_scope scope)
    uint64_t fa_scope_span_id(fa_scope scope)
    uint64_t fa_scope_held_bytes(fa_scope scope)
    ctypedef struct fa_totals "struct fa_scope_totals":
        uint64_t duration_ns
        uint64_t count
        uint64_t bytes
        int64_t live_change_bytes
        uint64_t held_bytes
        uint64_t peak_bytes
    void fa_scope_record_closely(fa_scope scope, uint32_t interval_bytes)
    void fa_scope_close(fa_scope scope, fa_scope next, fa_totals *totals)
    int fa_scope_totals(fa_scope scope, fa_totals *totals)
    void fa_checkpoint(const char *name, size_t name_bytes)
    void fa_set_process_phase(const char *name, size_t name_bytes)
    void fa_set_thread_name(uint32_t tid, const char *name, size_t name_bytes)

    struct fa_held:
        uint64_t live_bytes

    struct fa_span:
        uint64_t id
        uint64_t parent_id
        uint64_t start_ns
        uint64_t count
        uint64_t bytes
        uint32_t name
        uint32_t thread_name
        uint32_t tid
        fa_held held
        const char *attributes

    struct fa_record:
        uint64_t time_ns
        uint64_t span_id
        uint64_t bytes
        int64_t live_change_bytes
        uint64_t live_bytes
        uint64_t rss_bytes
        uint32_t name
        uint32_t span_name
        uint32_t thread_name

    struct fa_object_counts:
        uint64_t seen
        size_t kept
        void **objects
        int complete

    fa_status fa_dump_reserve(size_t touched, size_t most)
    fa_status fa_dump_signal(int number)
    uint32_t fa_dump_signals()
    size_t fa_dump_begin(size_t limit)
    int fa_dump_text(const char *text, size_t bytes, size_t spare)
    size_t fa_dump_position()
    void fa_dump_rewind(size_t position)
    fa_status fa_dump_write(uint64_t instant_ms, uint64_t headroom, char *path, size_t path_bytes) nogil
    size_t fa_open_spans(const fa_span **spans, size_t *more)
    size_t fa_checkpoints(const fa_record **records)
    const char *fa_string(uint32_t id, size_t *bytes)
    uint32_t fa_thread_name_string(uint32_t thread_name)
    uint32_t fa_next_thread(uint32_t after, uint32_t *tid, uint64_t *span_id, uint32_t *phase_name)
    uint64_t fa_now_ns()
    int64_t fa_headroom()
    int fa_count_objects(void **wanted, size_t wanted_count, uint64_t budget_ns, fa_object_counts *counts)
    int fa_counting_writes()
    void *fa_most_frequent_type(uint64_t *count)
    void fa_forget_types()
