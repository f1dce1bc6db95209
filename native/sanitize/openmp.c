// The part of the OpenMP runtime that the kernels use, on threads that ThreadSanitizer sees (REGARD_SANITIZE=thread).
//
// libgomp wakes and awaits its threads in ways that the sanitizer does not know, so all that is handed over would be
// reported. Here a team is made and joined, and its barriers are those of pthreads. The iterations of a loop are given
// out through a relaxed counter, which orders nothing: what has to be ordered, the kernels must order themselves. These
// functions are hidden, or torch's libgomp would take their place. A construct that is not here is an error of the
// linker, by name.
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct {
    void (*body)(void*);
    void* data;
    int size;
    pthread_barrier_t barrier;
    atomic_long taken;  // chunks of the loop that the team is in
} Team;

typedef struct {
    Team* team;
    int number;
    long start, end, step, chunk;  // of the loop
} Member;

static _Thread_local Member* self;

static void* work(void* member) {
    self = member;
    self->team->body(self->team->data);
    self = NULL;
    return NULL;
}

int omp_get_num_threads(void) { return self ? self->team->size : 1; }

int omp_get_thread_num(void) { return self ? self->number : 0; }

void GOMP_parallel(void (*body)(void*), void* data, unsigned size, unsigned flags) {
    (void)flags;
    if (self || size == 0) abort();  // the kernels nest no teams and say how large each is
    Team team = {.body = body, .data = data, .size = (int)size};
    Member* const members = calloc(size, sizeof(Member));
    pthread_t* const threads = calloc(size, sizeof(pthread_t));
    if (!members || !threads || pthread_barrier_init(&team.barrier, NULL, size)) abort();
    for (unsigned number = 0; number < size; ++number) members[number] = (Member){.team = &team, .number = (int)number};
    for (unsigned number = 1; number < size; ++number)
        if (pthread_create(&threads[number], NULL, work, &members[number])) abort();
    work(&members[0]);
    for (unsigned number = 1; number < size; ++number) pthread_join(threads[number], NULL);
    pthread_barrier_destroy(&team.barrier);
    free(threads);
    free(members);
}

void GOMP_barrier(void) {
    if (self) pthread_barrier_wait(&self->team->barrier);
}

bool GOMP_loop_nonmonotonic_dynamic_next(long* first, long* last) {
    const long taken = atomic_fetch_add_explicit(&self->team->taken, 1, memory_order_relaxed);
    const long span = self->chunk * self->step;
    *first = self->start + taken * span;
    *last = *first + span;
    if (self->step > 0 ? *first >= self->end : *first <= self->end) return false;
    if (self->step > 0 ? *last > self->end : *last < self->end) *last = self->end;
    return true;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long step, long chunk, long* first, long* last) {
    self->start = start, self->end = end, self->step = step, self->chunk = chunk;
    return GOMP_loop_nonmonotonic_dynamic_next(first, last);
}

void GOMP_loop_end(void) {
    // All have left the loop before one resets the counter, and it is reset before any enters the next loop.
    Team* const team = self->team;
    if (pthread_barrier_wait(&team->barrier) == PTHREAD_BARRIER_SERIAL_THREAD) atomic_store(&team->taken, 0);
    pthread_barrier_wait(&team->barrier);
}
