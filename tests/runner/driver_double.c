/* A driver with the calls that the device clock uses, under CUDA's names and HIP's. Time passes by 0.25 ms a record.
   The handles are beyond 32 bits, as real ones are: a binding that cuts them fails here. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONTEXT ((void *)0x7f0011112222ULL)
#define EVENT(n) ((void *)(0x7f0033334440ULL + (n)))

static int events, device = -1, failing;
static uint64_t last_stream, streams;
static double now_ms, recorded[2];
static void *current;

void fail_with(int status) { failing = status; }
uint64_t stream_seen(void) { return last_stream; }
uint64_t records_seen(void) { return streams; }
int device_seen(void) { return device; }
void pass_ms(double ms) { now_ms += ms; }
void restart(void) { events = 0; device = -1; failing = 0; current = NULL; streams = 0; now_ms = 0; }

static int record(void *event, void *stream)
{
    size_t which = (uintptr_t)event - (uintptr_t)EVENT(0);
    if (which > 1) return 400;
    now_ms += 0.25;
    recorded[which] = now_ms;
    last_stream = (uintptr_t)stream;
    streams++;
    return 0;
}
static int create(void **event)
{
    if (events > 1) return 2;
    *event = EVENT(events++);
    return 0;
}
static int elapsed(float *ms, void *first, void *second)
{
    if (first != EVENT(0) || second != EVENT(1)) return 400;
    *ms = (float)(recorded[1] - recorded[0]);
    return failing;
}
static int memory(size_t *free_bytes, size_t *total)
{
    *free_bytes = 5ULL << 30;
    *total = 141ULL << 30;
    return failing;
}

int cuInit(unsigned flags) { return flags; }
int cuDeviceGetCount(int *count) { *count = 2; return failing; }
int cuDeviceGet(int *out, int index) { *out = index + 100; return index > 1 ? 101 : 0; }
/* two cards of one kind, the second one smaller */
int cuDeviceGetName(char *name, int size, int which) { snprintf(name, size, "Card %d", which - 100); return failing; }
int cuDeviceTotalMem_v2(size_t *bytes, int which) { *bytes = which == 100 ? 141ULL << 30 : 80ULL << 30; return failing; }
int cuDeviceGetAttribute(int *out, int what, int which) { *out = which == 100 ? 132 : 114; return what == 16 ? failing : 1; }
int cuDeviceGetPCIBusId(char *id, int size, int which) { snprintf(id, size, "0000:%02X:00.0", which == 100 ? 0xCB : 0x1A); return failing; }
int cuDevicePrimaryCtxRetain(void **context, int which) { device = which - 100; *context = CONTEXT; return 0; }
int cuCtxSetCurrent(void *context) { current = context; return context == CONTEXT ? 0 : 201; }
int cuEventCreate(void **event, unsigned flags) { return current && !flags ? create(event) : 201; }
int cuEventRecord(void *event, void *stream) { return record(event, stream); }
int cuEventElapsedTime(float *ms, void *first, void *second) { return elapsed(ms, first, second); }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { return memory(free_bytes, total); }

int hipSetDevice(int index) { device = index; return index > 1 ? 101 : 0; }
int hipEventCreateWithFlags(void **event, unsigned flags) { return flags ? 1 : create(event); }
int hipEventRecord(void *event, void *stream) { return record(event, stream); }
int hipEventElapsedTime(float *ms, void *first, void *second) { return elapsed(ms, first, second); }
int hipMemGetInfo(size_t *free_bytes, size_t *total) { return memory(free_bytes, total); }
