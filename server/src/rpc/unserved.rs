//! The methods of etcd that are answered `UNIMPLEMENTED` (docs/compatibility.md). Owns their
//! names, so that they are counted; a test compares with the descriptors.

use crate::metrics::{GrpcMethod, MethodKind};

/// Every method of etcd's that is not served.
pub const UNSERVED: &[GrpcMethod] = &[
    cluster("MemberAdd"),
    cluster("MemberRemove"),
    cluster("MemberUpdate"),
    cluster("MemberPromote"),
    unary("etcdserverpb.Maintenance", "Downgrade"),
    auth("AuthEnable"),
    auth("AuthDisable"),
    auth("AuthStatus"),
    auth("Authenticate"),
    auth("UserAdd"),
    auth("UserGet"),
    auth("UserList"),
    auth("UserDelete"),
    auth("UserChangePassword"),
    auth("UserGrantRole"),
    auth("UserRevokeRole"),
    auth("RoleAdd"),
    auth("RoleGet"),
    auth("RoleList"),
    auth("RoleDelete"),
    auth("RoleGrantPermission"),
    auth("RoleRevokePermission"),
    unary("v3electionpb.Election", "Campaign"),
    unary("v3electionpb.Election", "Proclaim"),
    unary("v3electionpb.Election", "Leader"),
    GrpcMethod {
        service: "v3electionpb.Election",
        method: "Observe",
        kind: MethodKind::ServerStream,
    },
    unary("v3electionpb.Election", "Resign"),
    unary("v3lockpb.Lock", "Lock"),
    unary("v3lockpb.Lock", "Unlock"),
];

const fn unary(service: &'static str, method: &'static str) -> GrpcMethod {
    GrpcMethod {
        service,
        method,
        kind: MethodKind::Unary,
    }
}

const fn auth(method: &'static str) -> GrpcMethod {
    unary("etcdserverpb.Auth", method)
}

const fn cluster(method: &'static str) -> GrpcMethod {
    unary("etcdserverpb.Cluster", method)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::{FileDescriptorSet, MethodDescriptorProto};

    use super::*;
    use crate::rpc::METHODS;

    fn kind_of(method: &MethodDescriptorProto) -> MethodKind {
        match (method.client_streaming(), method.server_streaming()) {
            (false, false) => MethodKind::Unary,
            (false, true) => MethodKind::ServerStream,
            (true, false) => MethodKind::ClientStream,
            (true, true) => MethodKind::BidiStream,
        }
    }

    #[test]
    fn all_methods_are_served_or_known_not_to_be() {
        let files = FileDescriptorSet::decode(kvproto::FILE_DESCRIPTOR_SET).unwrap();
        let mut described = BTreeSet::new();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let service = format!("{}.{}", file.package(), service.name());
                    let kind = format!("{:?}", kind_of(method));
                    described.insert((service, method.name().to_owned(), kind));
                }
            }
        }
        let health = "grpc.health.v1.Health";
        let known = METHODS.iter().filter(|row| row.service != health);
        let known = known.chain(UNSERVED).map(|row| {
            let (service, method) = (row.service.to_owned(), row.method.to_owned());
            (service, method, format!("{:?}", row.kind))
        });
        assert_eq!(known.collect::<BTreeSet<_>>(), described);
    }
}
