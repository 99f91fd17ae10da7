package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/rowlock-io/rowlock/agents/scheduler"
)

func (o *agentOptions) validateScheduler() error {
	if o.schedulerConfig != "" && !o.scheduler {
		return errors.New("--scheduler-config is about the scheduler that --scheduler=false leaves to others")
	}
	if _, err := scheduler.Load(o.schedulerConfig); err != nil {
		return fmt.Errorf("--scheduler-config: %w", err)
	}
	return nil
}

// checkScheduler finds what is wrong with the file of the scheduler when features have been switched, before anything has started.
func (o *agentOptions) checkScheduler() error {
	if o.schedulerConfig == "" {
		return nil
	}
	c, err := scheduler.Load(o.schedulerConfig)
	if err != nil {
		return fmt.Errorf("--scheduler-config: %w", err)
	}
	if err := scheduler.Check(c); err != nil {
		return fmt.Errorf("--scheduler-config: %s: %w", o.schedulerConfig, err)
	}
	return nil
}

// tellIgnored warns of what the file says that means nothing inside a server.
func (o *agentOptions) tellIgnored(log *slog.Logger) error {
	ignored, err := scheduler.Ignored(o.schedulerConfig)
	if err != nil {
		return fmt.Errorf("--scheduler-config: %w", err)
	}
	if len(ignored) > 0 {
		log.Warn("Parts of --scheduler-config mean nothing inside a server", "file", o.schedulerConfig, "ignored", ignored)
	}
	return nil
}
