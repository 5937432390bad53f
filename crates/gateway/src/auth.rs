//! Who is calling, and whether they may.
//!
//! A role says what its holders may do at most; a token narrows that by operation, branch and customer.
//! Whose account it is only the book knows, so the customer's scope travels to the branch and is checked
//! there. Forbidden and unknown are told apart on purpose: a token's holder knows its own scope.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use skerry_book::actor::{Actor, Cause, Principal, Role};
use skerry_branch::api::{Denied, Scope};
use skerry_money::CustomerNumber;

use crate::catalogue;
use crate::detail::{Detail, said};
use crate::problem::Problem;
use crate::tokens::{Grant, Presented, TokenStore};

/// What can be done through the face of the bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Operation {
    /// Look at customers.
    #[serde(rename = "customers:read")]
    CustomersRead,
    /// Create, change and erase customers.
    #[serde(rename = "customers:write")]
    CustomersWrite,
    /// Look at accounts, entries and balances.
    #[serde(rename = "accounts:read")]
    AccountsRead,
    /// Open accounts.
    #[serde(rename = "accounts:write")]
    AccountsWrite,
    /// Change limits, freeze, close and reopen accounts.
    #[serde(rename = "accounts:control")]
    AccountsControl,
    /// Look at transfers and receipts.
    #[serde(rename = "transfers:read")]
    TransfersRead,
    /// Move money.
    #[serde(rename = "transfers:write")]
    TransfersWrite,
    /// Undo posted transfers.
    #[serde(rename = "transfers:reverse")]
    TransfersReverse,
    /// Take history over from an old core.
    #[serde(rename = "import")]
    Import,
    /// Trial balances, the chart, branches and meters.
    #[serde(rename = "reports:read")]
    ReportsRead,
    /// The audit trail.
    #[serde(rename = "audit:read")]
    AuditRead,
    /// The stream of events.
    #[serde(rename = "events:read")]
    EventsRead,
    /// Look at webhooks.
    #[serde(rename = "webhooks:read")]
    WebhooksRead,
    /// Make, steer and delete webhooks.
    #[serde(rename = "webhooks:control")]
    WebhooksControl,
    /// Reopen branches, adopt charts, change policies and days.
    #[serde(rename = "branches:control")]
    BranchesControl,
    /// Make, list and revoke tokens.
    #[serde(rename = "tokens:control")]
    TokensControl,
    /// Approve what another proposed.
    #[serde(rename = "approve")]
    Approve,
}

impl Operation {
    /// Whether `role` may ever do it.
    #[must_use]
    pub const fn allowed_to(self, role: Role) -> bool {
        use Operation as O;
        match role {
            Role::Operator => true,
            Role::Bank => false,
            Role::Service => matches!(
                self,
                O::CustomersRead
                    | O::CustomersWrite
                    | O::AccountsRead
                    | O::AccountsWrite
                    | O::TransfersRead
                    | O::TransfersWrite
                    | O::EventsRead
            ),
            Role::Auditor => matches!(
                self,
                O::CustomersRead
                    | O::AccountsRead
                    | O::TransfersRead
                    | O::ReportsRead
                    | O::AuditRead
                    | O::EventsRead
                    | O::WebhooksRead
            ),
            Role::Customer => {
                matches!(
                    self,
                    O::CustomersRead | O::AccountsRead | O::TransfersRead | O::TransfersWrite | O::EventsRead
                )
            }
        }
    }
}

/// SHA-256 of the certificate that a client showed; laid into each request of its connection.
#[derive(Debug, Clone, Copy)]
pub struct ClientCertificate(pub [u8; 32]);

/// A caller whose token is good.
#[derive(Debug, Clone)]
pub struct Caller {
    grant: Arc<Grant>,
    cause: Cause,
}

impl Caller {
    /// Checks the `Authorization` header.
    ///
    /// # Errors
    ///
    /// 401 problems: none, unknown, expired, bound to another certificate, or a JWT that does not hold; 403 if a JWT
    /// grants nothing here.
    pub fn authenticate(
        headers: &HeaderMap,
        certificate: Option<ClientCertificate>,
        tokens: &TokenStore,
        now_s: u64,
    ) -> Result<Self, Problem> {
        let unauthenticated = |detail: Detail| Problem::numbered(catalogue::UNAUTHENTICATED).detail(detail);
        let header = headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| unauthenticated(said!("no Authorization header", "缺少 Authorization 请求头")))?;
        let token = header
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| {
                unauthenticated(said!(
                    "the Authorization header is not `Bearer <token>`",
                    "Authorization 请求头不是 `Bearer <令牌>`"
                ))
            })?;
        match tokens.present(token, now_s) {
            Presented::Granted(grant) => {
                if grant.certificate.is_some() && grant.certificate != certificate.map(|shown| shown.0) {
                    return Err(unauthenticated(said!(
                        "the token is bound to a client certificate that was not shown",
                        "令牌绑定了客户端证书，而该证书未出示"
                    )));
                }
                Ok(Self::granted(grant))
            }
            Presented::Expired => Err(Problem::numbered(catalogue::TOKEN_EXPIRED)),
            Presented::Refused(refusal) => Err(refusal.problem()),
            Presented::Unknown => Err(unauthenticated(said!("the token is not known", "未知的令牌"))),
        }
    }

    /// A caller with `grant`, for tests and for those who authenticate otherwise.
    #[must_use]
    pub fn granted(grant: Arc<Grant>) -> Self {
        Self { grant, cause: Cause::Request }
    }

    /// Whether the caller may do `operation` at all.
    ///
    /// # Errors
    ///
    /// `forbidden` if the role may not, `out_of_scope` if the token may not.
    pub fn may(&self, operation: Operation) -> Result<(), Problem> {
        if !operation.allowed_to(self.grant.role) {
            let role = self.grant.role.name();
            let detail = said!("the role {role} may not do this", "角色 {role} 无权执行此操作");
            return Err(Problem::numbered(catalogue::FORBIDDEN).detail(detail));
        }
        match &self.grant.operations {
            Some(operations) if !operations.contains(&operation) => {
                Err(out_of_scope(said!("the token does not cover this operation", "令牌不包含此操作")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may act on `branch`.
    ///
    /// # Errors
    ///
    /// `out_of_scope`.
    pub fn may_in(&self, branch: u16) -> Result<(), Problem> {
        match &self.grant.branches {
            Some(branches) if !branches.contains(&branch) => {
                Err(out_of_scope(said!("the token does not cover this branch", "令牌不包含该分行")))
            }
            _ => match self.grant.customer {
                Some(customer) if customer.branch() != branch => Err(out_of_scope(said!(
                    "the token's customer lives in another branch",
                    "令牌所属客户在另一分行"
                ))),
                _ => Ok(()),
            },
        }
    }

    /// Whether the caller may see and act for `customer`.
    ///
    /// # Errors
    ///
    /// `out_of_scope`.
    pub fn may_for(&self, customer: CustomerNumber) -> Result<(), Problem> {
        self.may_in(customer.branch())?;
        match self.grant.customer {
            Some(own) if own != customer => {
                Err(out_of_scope(said!("the token belongs to another customer", "令牌属于另一客户")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may see an account of the customer with this serial, in a branch it [may act
    /// in](Self::may_in); 0 is the bank's own.
    ///
    /// # Errors
    ///
    /// `out_of_scope`, in the words of the branch.
    pub(crate) fn may_see_account_of(&self, owner: u32) -> Result<(), Problem> {
        match self.scope().customer {
            Some(own) if own != owner => {
                Err(Problem::numbered(catalogue::OUT_OF_SCOPE).detail(Denied::Scope.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller acts for the whole bank rather than for one customer.
    ///
    /// # Errors
    ///
    /// `out_of_scope`.
    pub fn may_beyond_one_customer(&self) -> Result<(), Problem> {
        match self.grant.customer {
            Some(_) => Err(out_of_scope(said!("the token belongs to one customer", "该令牌只属于一个客户"))),
            None => Ok(()),
        }
    }

    /// Whether the caller may make a token of this width: none wider than its own.
    ///
    /// # Errors
    ///
    /// `out_of_scope`.
    pub fn may_grant(
        &self,
        branches: Option<&[u16]>,
        operations: Option<&[Operation]>,
    ) -> Result<(), Problem> {
        let within_branches = self.sees_branches(branches);
        let within_operations = match (&self.grant.operations, operations) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(asked)) => asked.iter().all(|operation| own.contains(operation)),
        };
        if within_branches && within_operations {
            Ok(())
        } else {
            Err(out_of_scope(said!(
                "a token cannot be made wider than the one it is made with",
                "新令牌的权限不能超过用来创建它的令牌"
            )))
        }
    }

    /// Whether these branches, or all, are among the caller's.
    pub(crate) fn sees_branches(&self, branches: Option<&[u16]>) -> bool {
        match (&self.grant.branches, branches) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(asked)) => asked.iter().all(|branch| own.contains(branch)),
        }
    }

    /// Whether nothing narrows what the role allows.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.grant.role == Role::Operator && self.grant.operations.is_none()
    }

    /// What the branch must check.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let serial = self.grant.customer.map(|customer| u32::try_from(customer.serial()).unwrap_or(u32::MAX));
        Scope { customer: serial }
    }

    /// Whether the caller may read names and notes where they may read what these belong to: auditors may not.
    #[must_use]
    pub fn may_read_personal_data(&self) -> bool {
        self.grant.role != Role::Auditor
    }

    /// The customer that the token belongs to.
    #[must_use]
    pub fn customer(&self) -> Option<CustomerNumber> {
        self.grant.customer
    }

    /// The caller's name.
    #[must_use]
    pub fn principal(&self) -> Principal {
        self.grant.principal
    }

    /// The caller's role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.grant.role
    }

    /// The actor to be journaled for a request with this digest.
    #[must_use]
    pub fn actor(&self, request: [u8; 16]) -> Actor {
        Actor {
            principal: self.grant.principal,
            role: self.grant.role,
            request,
            approver: None,
            cause: self.cause,
        }
    }

    /// The caller as one who takes over from an old core: what they do is journaled as imported, and its keys are kept
    /// for ever.
    ///
    /// # Errors
    ///
    /// 403 if they may not import.
    pub fn importing(&self) -> Result<Self, Problem> {
        self.may(Operation::Import)?;
        Ok(Self { cause: Cause::Import, ..self.clone() })
    }
}

fn out_of_scope(detail: Detail) -> Problem {
    Problem::numbered(catalogue::OUT_OF_SCOPE).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, change: impl FnOnce(&mut Grant)) -> Caller {
        let mut grant = Grant {
            principal: Principal::new("test").unwrap(),
            role,
            branches: None,
            customer: None,
            operations: None,
            expires_s: None,
            certificate: None,
        };
        change(&mut grant);
        Caller::granted(Arc::new(grant))
    }

    #[test]
    fn roles_bound_what_tokens_may_say() {
        assert!(caller(Role::Operator, |_| {}).may(Operation::Import).is_ok());
        assert_eq!(caller(Role::Service, |_| {}).may(Operation::Import).unwrap_err().code(), "forbidden");
        assert_eq!(
            caller(Role::Auditor, |_| {}).may(Operation::TransfersWrite).unwrap_err().code(),
            "forbidden"
        );
        let wide = caller(Role::Customer, |grant| grant.operations = Some(vec![Operation::Import]));
        assert_eq!(wide.may(Operation::Import).unwrap_err().code(), "forbidden");
        let narrow = caller(Role::Operator, |grant| grant.operations = Some(vec![Operation::Import]));
        assert_eq!(narrow.may(Operation::TransfersWrite).unwrap_err().code(), "out_of_scope");
    }

    #[test]
    fn scopes_hold_by_branch_and_customer() {
        let one = caller(Role::Service, |grant| grant.branches = Some(vec![1]));
        assert!(one.may_in(1).is_ok() && one.may_in(2).is_err());
        let own = CustomerNumber::new(2, 7);
        let customer = caller(Role::Customer, |grant| grant.customer = Some(own));
        assert!(customer.may_for(own).is_ok());
        assert!(customer.may_for(CustomerNumber::new(2, 8)).is_err());
        assert!(customer.may_in(1).is_err() && customer.may_in(2).is_ok());
        assert!(customer.may_beyond_one_customer().is_err());
        assert_eq!(customer.scope().customer, Some(7));
    }
}
