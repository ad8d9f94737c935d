// SPDX-License-Identifier: Apache-2.0
// The answer to an SRV question as it came over the wire, turned into a list. Consul puts the
// addresses of the targets into the additional records, which c-ares's own parser leaves out: so
// the message is walked here, every bound checked. Pure function, any thread.
//
// Source: RFC 1035 section 4, RFC 2782.
#ifndef QS_COMMON_DISCOVERY_SRV_H
#define QS_COMMON_DISCOVERY_SRV_H

#include "common/base/bytes.h"
#include "common/discovery/endpoints.h"

#define SRV_RECORDS_MAX 2048 // that are looked at; a message of 64 KiB hardly holds more

// The replicas that `message` names, in its order: those whose target's address comes along;
// *ret_refused counts the others. ERR_PROTOCOL: the message is not what it should be.
int srv_read(struct bytes message, struct endpoints **ret_endpoints,
             size_t *ret_refused) MUST_CHECK;

#endif
