// What this version of Guideway cannot do yet, of what a configuration may say.
//
// The last step of LoadConfig (config.h), for a configuration without errors. What would make it
// treat packets wrongly if it were passed over is `unsupported`; what is merely not active yet is a
// warning. As the packet path and the control thread learn, this file shrinks; nothing else
// changes.
#ifndef GUIDEWAY_CONTROL_CONFIG_SUPPORT_H_
#define GUIDEWAY_CONTROL_CONFIG_SUPPORT_H_

#include "control/config/config.pb.h"
#include "control/config/diagnostics.h"
#include "control/config/walker.h"

namespace guideway {

void CheckSupport(const config::Config& config, const Places& places, Findings* findings);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_SUPPORT_H_
