// What this version of Guideway does not do yet, of what a configuration may say.
//
// The last step of LoadConfig (config.h), for a configuration without errors: a warning for each
// such key, which says what is done instead (docs/decisions/0006-valid-but-not-yet.md). As the
// packet path and the control thread learn, this file shrinks; nothing else changes.
#ifndef GUIDEWAY_CONTROL_CONFIG_SUPPORT_H_
#define GUIDEWAY_CONTROL_CONFIG_SUPPORT_H_

#include "control/config/config.pb.h"
#include "control/config/diagnostics.h"
#include "control/config/walker.h"

namespace guideway {

void CheckSupport(const config::Config& config, const Places& places, Findings* findings);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_SUPPORT_H_
