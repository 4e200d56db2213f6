/* Preloaded into a process: its fsync is slow and its wall clock is off, as a file says.
 *
 * HEXRUN_CHAOS_SHIM names a file of two 64-bit integers, mapped into memory: milliseconds that
 * each fsync takes longer, and milliseconds that CLOCK_REALTIME is ahead. Monotonic time is true.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t at_rest[2] = {0, 0};
static const volatile int64_t *lever = at_rest;

__attribute__((constructor)) static void open_lever(void) {
    const char *path = getenv("HEXRUN_CHAOS_SHIM");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof at_rest, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) lever = mapped;
}

static void wait_first(void) {
    int64_t ms = lever[0];
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    if (ms > 0) nanosleep(&left, NULL);
}

int fsync(int file) { wait_first(); return syscall(SYS_fsync, file); }
int fdatasync(int file) { wait_first(); return syscall(SYS_fdatasync, file); }

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, at);
    if (failed || clock != CLOCK_REALTIME || !lever[1]) return failed;
    int64_t ns = at->tv_nsec + lever[1] % 1000 * 1000000;
    at->tv_sec += lever[1] / 1000 + (ns < 0 ? -1 : ns / 1000000000);
    at->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
