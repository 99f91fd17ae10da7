package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/rowlock-io/rowlock/server/encryption"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
)

func newEncryptionRewrite() *cobra.Command {
	var v vault
	var o encryptionOptions
	var dropHistory bool
	cmd := &cobra.Command{
		Use: "rewrite", Short: "Encrypt everything anew that an old key, or none, encrypts", Args: cobra.NoArgs,
		Long: `Encrypt everything anew that an old key or provider encrypts, or none, so that it is as servers with the same
--encryption-provider-config would write it now. Clients see an update that changes nothing but the
resourceVersion. It may be cut short and run again.

The history keeps what old keys encrypted until retention drops it, or --drop-history does.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := v.keys()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			providers, err := o.open(ctx, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			if providers != nil {
				defer providers.Close()
			}
			return v.each(ctx, func(name string, store storage.Store) error {
				if err := rewrite(ctx, cmd.ErrOrStderr(), name, store, keys, providers); err != nil || !dropHistory {
					return err
				}
				head, err := store.Head(ctx)
				if err == nil {
					err = store.Compact(ctx, head.Revision)
				}
				return err
			})
		},
	}
	v.addFlags(cmd)
	cmd.Flags().StringVar(&o.Config, "encryption-provider-config", "", "file of the EncryptionConfiguration that the servers have")
	cmd.Flags().BoolVar(&dropHistory, "drop-history", false, "drop the history when everything is rewritten: clients that resume watches or read the past have to list again")
	return cmd
}

// errUnreadable: a rewrite left objects as they were.
var errUnreadable = errors.New("some objects cannot be decrypted and were left as they are")

func rewrite(ctx context.Context, w io.Writer, name string, store storage.Store, keys *seal.Keyring, providers *encryption.Providers) error {
	data, err := encryption.Load(ctx, store, keys, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	told := time.Now()
	run := encryption.Rewrite{
		Keys: data, Providers: providers, Objects: encryption.Objects(store),
		Commit: func(ctx context.Context, ops []storage.Op) ([]storage.Result, error) {
			done, err := store.Commit(ctx, ops)
			return done.Results, err
		},
		Progress: func(done encryption.Rewritten) {
			if time.Since(told) > time.Second {
				told = time.Now()
				say(w, "cluster %s: %d of %d objects rewritten\n", name, done.Written, done.Seen)
			}
		},
		Unreadable: func(key storage.Key, err error) { say(w, "cluster %s: %s: %v\n", name, key, err) },
	}
	done, err := run.Run(ctx)
	say(w, "cluster %s: %d of %d objects rewritten, %d cannot be decrypted\n", name, done.Written, done.Seen, done.Unreadable)
	if err == nil && done.Unreadable > 0 {
		return errUnreadable
	}
	return err
}

func newEncryptionPrune() *cobra.Command {
	var v vault
	cmd := &cobra.Command{
		Use: "prune", Short: "Take away data keys that nothing needs any more", Args: cobra.NoArgs,
		Long: `Take away data keys that encrypt neither an object nor anything in the history, and that were retired
ten minutes ago or more. It reads all of the history.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := v.keys()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return v.each(ctx, func(name string, store storage.Store) error {
				present, past, err := encryption.Survey(ctx, store, true)
				if err != nil {
					return err
				}
				used := present.Keys
				for id := range past.Keys {
					used[id] = true
				}
				gone, err := encryption.Prune(ctx, store, keys, used, time.Now())
				for _, id := range gone {
					say(cmd.OutOrStdout(), "cluster %s: key %s is gone\n", name, id)
				}
				return err
			})
		},
	}
	v.addFlags(cmd)
	return cmd
}

func newEncryptionRekey() *cobra.Command {
	var v vault
	var newFile string
	cmd := &cobra.Command{
		Use: "rekey", Short: "Seal the clusters' identities and data keys with another key of the operator", Args: cobra.NoArgs,
		Long: `Seal the clusters' identities and data keys with another key of the operator. It may be cut short and run
again: each is sealed with the old key or the new one, and both are known here.

Running servers go on, but start again only with the new key, and take over new data keys only then: restart
them with it afterwards.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			old, err := v.keys()
			if err != nil {
				return err
			}
			fresh, err := seal.LoadKey(seal.Source{File: newFile})
			if err != nil {
				return fmt.Errorf("--new-encryption-key-file: %w", err)
			}
			ctx := cmd.Context()
			both := seal.Join(fresh, old)
			return v.each(ctx, func(name string, store storage.Store) error {
				// The present sealing key of each is the first; what it does not open now would not open later either.
				if _, err := pki.Load(ctx, store, both); err != nil {
					return err
				}
				if err := encryption.Reseal(ctx, store, both); err != nil {
					return err
				}
				say(cmd.OutOrStdout(), "cluster %s: sealed with key %s\n", name, fresh.KeyIDs()[0])
				return nil
			})
		},
	}
	v.addFlags(cmd)
	cmd.Flags().StringVar(&newFile, "new-encryption-key-file", "", "file of the new key")
	return cmd
}
