/* LD_PRELOAD for the client and the peers of `run.sh cpu`: a program that waits for its sockets polls, and never sleeps.
 *
 * What writes to a socket on which another process of the same machine sleeps wakes it, and that is the writer's CPU time: in a virtual machine
 * an interrupt of another core, as dear as all else that NGINX does for the write. The slower the writer is, the more often the others sleep.
 * Clients and peers on other machines cost nothing of that. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <time.h>

static long ms_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    static int (*real)(int, struct epoll_event *, int, int);
    long began;
    int n;

    if (real == NULL) {
        real = (int (*)(int, struct epoll_event *, int, int)) dlsym(RTLD_NEXT, "epoll_wait");
    }
    for (began = ms_now(); ; sched_yield()) { /* to the other one, where both share a core */
        n = real(epfd, events, max, 0);
        if (n != 0 || timeout_ms == 0 || (timeout_ms > 0 && ms_now() - began >= timeout_ms)) {
            return n;
        }
    }
}
