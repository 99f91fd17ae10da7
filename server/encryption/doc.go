// Package encryption keeps what the API calls secret unreadable in the database.
//
// Each cluster has data keys of its own, made at its first start. They are kept in the cluster's part of the database,
// sealed with the operator's key, so that a replica needs nothing more than it needs anyhow. By default they encrypt
// Secrets, as whole objects: annotations repeat what is in the data. An EncryptionConfiguration, as kube-apiserver reads it,
// names other providers and other resources.
//
// What it promises:
//
//   - Stored bytes are bound to their place: cluster, resource, namespace and name. Bytes of another row are refused. (AES-GCM, KMS
//     and generated keys authenticate the place; for secretbox and AES-CBC, which cannot, the name inside is compared.)
//   - A key is in the log before anything that was encrypted with it. A replica that meets a key that it does not know finds it
//     in its cache, so keys are rotated beneath running replicas and nobody has to be told.
//   - What cannot be decrypted is never replaced.
package encryption
