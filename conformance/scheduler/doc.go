// Package scheduler judges the scheduler inside a server by a stock KubeSchedulerConfiguration: profiles, plug-ins with arguments,
// and an extender, and by what it says of itself.
package scheduler
