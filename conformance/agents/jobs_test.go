package agents

import (
	"fmt"
	"time"
)

// job is one whose pods the flow plays, unless its template says otherwise, with further fields of its spec.
func job(template, fields string) string {
	return fmt.Sprintf(`{apiVersion: batch/v1, kind: Job, metadata: {name: job}, spec: {template: %s, %s}}`, template, fields)
}

// quick is a template whose pods succeed at once.
const quick = "{spec: {restartPolicy: Never, containers: [{name: c, image: one}]}}"

const (
	complete = "o.status.conditions.exists(c, c.type == 'Complete' && c.status == 'True')"
	// ofJob selects the pods of a Job.
	ofJob = "pods?batch.kubernetes.io/job-name=job"
)

// end ends the pod of an index.
func (f *flow) end(index, code int) {
	f.Helper()
	pods := f.awaitAll(ofJob+fmt.Sprintf(",batch.kubernetes.io/job-completion-index=%d", index), "items.exists(p, p.status.phase in ['Pending', 'Running'])")
	for _, p := range pods {
		if phase := p.Object["status"].(map[string]any)["phase"]; phase == "Pending" || phase == "Running" {
			f.ended(p.GetName(), code)
		}
	}
}

var jobs = group{
	"it completes as often as asked, so many at a time": func(f *flow) {
		f.create(job(held, "completions: 3, parallelism: 2"))
		pods := f.awaitAll(ofJob, "items.size() == 2 && items.all(p, 'batch.kubernetes.io/job-tracking' in p.metadata.finalizers)")
		f.await("jobs/job", "o.status.active == 2 && !has(o.status.completionTime)")
		f.ended(pods[0].GetName(), 0)
		f.await("jobs/job", "o.status.active == 2 && o.status.succeeded == 1")
		for _, p := range f.awaitAll(ofJob, "items.size() == 3") {
			if p.GetName() != pods[0].GetName() {
				f.ended(p.GetName(), 0)
			}
		}
		f.await("jobs/job", complete+" && o.status.succeeded == 3 && o.status.conditions.exists(c, c.type == 'SuccessCriteriaMet') && has(o.status.completionTime)")
		f.awaitAll(ofJob, "items.size() == 3 && items.all(p, !has(p.metadata.finalizers))")
	},
	"on nodes it completes by itself": func(f *flow) {
		f.create(job(quick, "completions: 4, parallelism: 4"))
		f.await("jobs/job", complete+" && o.status.succeeded == 4 && !has(o.status.failed)")
	},
	"indexed, each index completes once, and an index may fail alone": func(f *flow) {
		f.create(job(held, "completions: 3, parallelism: 3, completionMode: Indexed, backoffLimitPerIndex: 0"))
		f.awaitAll(ofJob, "items.map(p, p.metadata.annotations['batch.kubernetes.io/job-completion-index']).all(i, i in ['0', '1', '2']) && items.size() == 3")
		f.awaitAll(ofJob, "items.all(p, p.spec.containers[0].env.exists(e, e.name == 'JOB_COMPLETION_INDEX') && p.spec.hostname.startsWith('job-'))")
		f.end(0, 0)
		f.end(1, 1)
		f.end(2, 0)
		f.await("jobs/job", "o.status.conditions.exists(c, c.type == 'Failed' && c.reason == 'FailedIndexes') && o.status.completedIndexes == '0,2' && o.status.failedIndexes == '1'")
	},
	"it fails when its pods failed too often": func(f *flow) {
		f.create(job(held, "backoffLimit: 0"))
		f.ended(f.awaitAll(ofJob, "items.size() == 1")[0].GetName(), 1)
		f.await("jobs/job", "o.status.failed == 1 && o.status.conditions.exists(c, c.type == 'Failed' && c.reason == 'BackoffLimitExceeded')")
		f.awaitEvent("job", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
	},
	"it fails when time is over": func(f *flow) {
		f.create(job(held, "activeDeadlineSeconds: 1"))
		f.await("jobs/job", "o.status.conditions.exists(c, c.type == 'Failed' && c.reason == 'DeadlineExceeded')")
		f.awaitAll(ofJob, "items.size() == 0")
	},
	"a pod failure policy fails it by an exit code, and ignores disruptions": func(f *flow) {
		f.create(job(held, `backoffLimit: 0, completionMode: Indexed, completions: 2, parallelism: 2, podFailurePolicy: {rules: [
			{action: Ignore, onPodConditions: [{type: DisruptionTarget}]},
			{action: FailJob, onExitCodes: {containerName: c, operator: In, values: [42]}}]}`))
		disrupted := f.awaitAll(ofJob+",batch.kubernetes.io/job-completion-index=0", "items.size() == 1")[0].GetName()
		f.patch("pods/"+disrupted+"/status", fmt.Sprintf("status: {phase: Failed, conditions: [{type: DisruptionTarget, status: 'True', reason: Test, lastTransitionTime: %q}]}", time.Now().UTC().Format(time.RFC3339)))
		f.awaitAll(ofJob+",batch.kubernetes.io/job-completion-index=0", "items.exists(p, p.metadata.name != '"+disrupted+"' && p.status.phase == 'Pending')")
		f.await("jobs/job", "!has(o.status.failed)")
		f.end(1, 42)
		f.await("jobs/job", "o.status.conditions.exists(c, c.type == 'Failed' && c.reason == 'PodFailurePolicy' && c.message.contains('exit code 42'))")
	},
	"suspended its pods go, resumed they come": func(f *flow) {
		f.create(job(held, "suspend: true"))
		f.await("jobs/job", "o.status.conditions.exists(c, c.type == 'Suspended' && c.status == 'True')")
		f.patch("jobs/job", "spec: {suspend: false}")
		f.awaitAll(ofJob, "items.size() == 1")
		f.await("jobs/job", "o.status.active == 1 && has(o.status.startTime) && o.status.conditions.exists(c, c.type == 'Suspended' && c.status == 'False')")
		f.patch("jobs/job", "spec: {suspend: true}")
		f.awaitAll(ofJob, "items.size() == 0")
		f.await("jobs/job", "!has(o.status.active) && !has(o.status.startTime)")
	},
	"it goes some time after it finished": func(f *flow) {
		f.create(job(quick, "ttlSecondsAfterFinished: 1"))
		f.gone("jobs/job")
		f.awaitAll("pods", "items.size() == 0")
	},
	"a success policy ends it early": func(f *flow) {
		f.create(job(held, "completions: 3, parallelism: 3, completionMode: Indexed, successPolicy: {rules: [{succeededIndexes: '1', succeededCount: 1}]}"))
		f.end(1, 0)
		f.await("jobs/job", complete+" && o.status.succeeded == 1 && o.status.conditions.exists(c, c.type == 'SuccessCriteriaMet' && c.reason == 'SuccessPolicy')")
		f.awaitAll(ofJob, "items.size() == 1")
	},
	"somebody else's it is left alone": func(f *flow) {
		f.create(job(held, "managedBy: example.com/flow"))
		f.create(`{apiVersion: batch/v1, kind: Job, metadata: {name: other}, spec: {template: ` + quick + `}}`)
		f.await("jobs/other", complete)
		f.await("jobs/job", "!has(o.status.active) && !has(o.status.startTime)")
		f.awaitAll(ofJob, "items.size() == 0")
	},
}

// cron is a CronJob that is suspended, with further fields of its spec.
func cron(template, fields string) string {
	return fmt.Sprintf(`{apiVersion: batch/v1, kind: CronJob, metadata: {name: cron}, spec: {suspend: true, jobTemplate: {spec: {template: %s}}, %s}}`, template, fields)
}

// due lets a CronJob go on that was last scheduled some time ago.
func (f *flow) due(ago time.Duration) {
	f.Helper()
	f.patch("cronjobs/cron/status", fmt.Sprintf("status: {lastScheduleTime: %q}", time.Now().Add(-ago).UTC().Format(time.RFC3339)))
	f.patch("cronjobs/cron", "spec: {suspend: false}")
}

var cronJobs = group{
	"a time that was missed is made up for, once": func(f *flow) {
		f.create(cron(quick, "schedule: '0 * * * *', timeZone: Europe/Zurich"))
		f.due(150 * time.Minute)
		jobs := f.awaitAll("jobs", "items.size() == 1 && items[0].metadata.ownerReferences[0].kind == 'CronJob' && 'batch.kubernetes.io/cronjob-scheduled-timestamp' in items[0].metadata.annotations")
		f.await("jobs/"+jobs[0].GetName(), complete)
		f.await("cronjobs/cron", "!has(o.status.active) && has(o.status.lastSuccessfulTime)")
		f.awaitEvent("cron", "SawCompletedJob", "condition: Complete")
		f.awaitAll("jobs", "items.size() == 1")
	},
	"the minute comes": func(f *flow) {
		f.create(`{apiVersion: batch/v1, kind: CronJob, metadata: {name: cron}, spec: {schedule: '* * * * *', jobTemplate: {spec: {template: ` + quick + `}}}}`)
		f.await("cronjobs/cron", "has(o.status.lastSuccessfulTime)")
	},
	"forbidden to overlap it waits": func(f *flow) {
		f.create(cron(held, "schedule: '0 * * * *', concurrencyPolicy: Forbid"))
		f.due(150 * time.Minute)
		f.await("cronjobs/cron", "o.status.active.size() == 1")
		f.patch("cronjobs/cron", "spec: {suspend: true, schedule: '59 * * * *'}")
		f.due(90 * time.Minute)
		f.awaitEvent("cron", "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		f.awaitAll("jobs", "items.size() == 1")
	},
	"history is kept within its limits": func(f *flow) {
		cron := f.create(cron(quick, "schedule: '0 0 1 1 *', successfulJobsHistoryLimit: 1"))
		for i := range 3 {
			f.create(fmt.Sprintf(`{apiVersion: batch/v1, kind: Job, metadata: {name: job-%d, ownerReferences: [
				{apiVersion: batch/v1, kind: CronJob, name: cron, uid: %s, controller: true}]}, spec: {template: %s}}`, i, cron.GetUID(), quick))
		}
		f.awaitAll("jobs", "items.size() == 1 && items.all(o, "+complete+")")
	},
	"an unknown time zone is refused": func(f *flow) {
		_, err := f.try(cron(quick, "schedule: '0 * * * *', timeZone: Nowhere/Town"))
		if err == nil {
			f.Fatal("a CronJob of an unknown time zone was created")
		}
	},
	"deleted, its jobs and their pods go too": func(f *flow) {
		f.create(cron(held, "schedule: '0 * * * *'"))
		f.due(90 * time.Minute)
		f.awaitAll("pods", "items.size() == 1")
		f.delete("cronjobs/cron")
		f.awaitAll("jobs", "items.size() == 0")
		f.awaitAll("pods", "items.size() == 0")
	},
}
