/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The times of packets of traced flows: who answers what comes in owns it (src/throughway/core/answers.py). */
#ifndef THROUGHWAY_TRACE_H
#define THROUGHWAY_TRACE_H

#include "rewrite.h"

/* Note when a packet of the flow came, unless it is part of the burst before it. Two processors may write at once:
 * then one time is lost, or is in the place of an older one.
 */
static __always_inline void trace_packet(const struct flow_key *key, const struct mapping *mapping)
{
	struct trace *trace;
	__u64 now;

	if (!(mapping->flags & MAPPING_TRACED))
		return;
	trace = bpf_map_lookup_elem(&traces, key);
	if (!trace)
		return;
	now = bpf_ktime_get_ns();
	if (now - trace->last_ns >= TRACE_GAP_NS)
		trace->times_ns[trace->noted++ & (TRACE_TIMES - 1)] = now;
	trace->last_ns = now;
}

#endif
