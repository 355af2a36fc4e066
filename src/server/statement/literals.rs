//! Analyzing SQL that somebody else gave without running any of it.
//!
//! Analysis calls no function and plans nothing, but it reads literals, by their types' input functions. Most of these are the
//! server's own, or of types that superusers made. Not so the parts of arrays, rows and ranges: an array of a domain puts the domain's
//! checks to its elements, and a range calls the function that its maker gave to make it canonical. A security-restricted operation
//! does not contain such code: it may still make a type in `pg_temp`, say, which the session finds before the system's.
//!
//! So literals are taken out of the raw tree before it is analyzed, and the parser asks here for each of them once it knows the type that
//! it is to be read as. That type must be one whose input runs nobody's code, now or ever: a base type, an enum or a range of the
//! system's, an array of such, or a domain over one (whose own checks are part of the tree, and run where that does). Types
//! that can change, composite ones and elements that are domains, are made when the statement runs: `ROW(...)::type`.

use std::ffi::{c_char, c_void, CStr};

use pgrx::pg_sys::{self, NodeTag};
use pgrx::prelude::*;

use crate::server::error::{code, SyncError};
use crate::server::node::{expression_tree_mutator, TreeMutator, Walker};

/// A literal that was taken out of a raw tree.
struct Literal {
    text: *mut c_char,
    location: i32,
    /// The operand of a cast.
    cast: bool,
}

/// Analyzes a SELECT without parameters. Literals of types whose input may run somebody's code raise an ERROR.
///
/// # Safety
/// A raw tree of this text that nothing else refers to; within a memory context that both trees live in.
pub(super) unsafe fn analyze(
    statement: *mut pg_sys::RawStmt,
    text: &CStr,
    environment: *mut pg_sys::QueryEnvironment,
) -> *mut pg_sys::Query {
    let mut literals: Vec<Literal> = Vec::new();
    let state: *mut c_void = (&raw mut literals).cast();
    // SAFETY: the list outlives the analysis, which has it from `set_up`. An ERROR in what we call unwinds.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| take_out((*statement).stmt, state));
        let tree = pg_sys::parse_analyze_withcb(statement, text.as_ptr(), Some(set_up), state, environment);
        pg_sys::ffi::pg_guard_ffi_boundary(|| put_back(tree.cast(), state)).cast()
    }
}

// SAFETY: as in nodes/nodeFuncs.h.
unsafe extern "C-unwind" {
    #[cfg_attr(not(feature = "pg15"), link_name = "raw_expression_tree_walker_impl")]
    pub fn raw_expression_tree_walker(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_mutator_impl")]
    fn query_tree_mutator(
        query: *mut pg_sys::Query,
        mutator: TreeMutator,
        context: *mut c_void,
        flags: i32,
    ) -> *mut pg_sys::Query;
}

/// Makes each string constant of a raw tree a parameter with a number below zero.
///
/// # Safety
/// Called with nodes of a raw tree and the list of literals.
#[pg_guard]
unsafe extern "C-unwind" fn take_out(node: *mut pg_sys::Node, state: *mut c_void) -> bool {
    // SAFETY: nodes with these tags are of these types. A constant has room for a parameter.
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            NodeTag::T_A_Const => {
                replace(node.cast(), false, state);
                false
            }
            NodeTag::T_TypeCast => {
                let cast = &*node.cast::<pg_sys::TypeCast>();
                if !cast.arg.is_null() && (*cast.arg).type_ == NodeTag::T_A_Const {
                    replace(cast.arg.cast(), true, state);
                    return false;
                }
                take_out(cast.arg, state)
            }
            // What modifies a type are no expressions.
            NodeTag::T_TypeName => false,
            // JSON_TABLE's path is a constant of the system's type.
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            NodeTag::T_JsonTablePathSpec => false,
            NodeTag::T_CommonTableExpr => {
                // The walker does not go there.
                let cycle = (*node.cast::<pg_sys::CommonTableExpr>()).cycle_clause;
                if !cycle.is_null() {
                    take_out((*cycle).cycle_mark_value, state);
                    take_out((*cycle).cycle_mark_default, state);
                }
                raw_expression_tree_walker(node, take_out, state)
            }
            _ => raw_expression_tree_walker(node, take_out, state),
        }
    }
}

/// # Safety
/// A constant of a raw tree, and the list of literals.
unsafe fn replace(constant: *mut pg_sys::A_Const, cast: bool, state: *mut c_void) {
    const { assert!(size_of::<pg_sys::ParamRef>() <= size_of::<pg_sys::A_Const>()) };
    // SAFETY: see above; the union holds a string where its tag says so.
    unsafe {
        let literals = &mut *state.cast::<Vec<Literal>>();
        if (*constant).isnull || (*constant).val.node.type_ != NodeTag::T_String {
            return;
        }
        let location = (*constant).location;
        literals.push(Literal { text: (*constant).val.sval.sval, location, cast });
        let parameter: *mut pg_sys::ParamRef = constant.cast();
        (*parameter).type_ = NodeTag::T_ParamRef;
        (*parameter).number = -(literals.len() as i32);
        (*parameter).location = location;
    }
}

/// # Safety
/// Called by the parser with the list of literals.
#[pg_guard]
unsafe extern "C-unwind" fn set_up(parser: *mut pg_sys::ParseState, state: *mut c_void) {
    // SAFETY: a parser's state; those of subqueries take over what is set here.
    unsafe {
        (*parser).p_paramref_hook = Some(parameter);
        (*parser).p_coerce_param_hook = Some(coerced);
        (*parser).p_ref_hook_state = state;
    }
}

/// The literal of this number.
///
/// # Safety
/// A parser's state that `set_up` has seen.
unsafe fn literal<'l>(parser: *mut pg_sys::ParseState, number: i32) -> Option<&'l Literal> {
    // SAFETY: the list outlives the analysis.
    let literals = unsafe { &*(*parser).p_ref_hook_state.cast::<Vec<Literal>>() };
    literals.get(usize::try_from(-1 - i64::from(number)).ok()?)
}

/// A literal whose type is not known yet.
///
/// # Safety
/// Called by the parser.
#[pg_guard]
unsafe extern "C-unwind" fn parameter(
    parser: *mut pg_sys::ParseState,
    reference: *mut pg_sys::ParamRef,
) -> *mut pg_sys::Node {
    // SAFETY: see above. No hook's result is the parser's own error: there is no such parameter.
    unsafe {
        // Up to PostgreSQL 17, `$4294967295` is number -1, too.
        if literal(parser, (*reference).number).is_none_or(|l| l.location != (*reference).location) {
            return std::ptr::null_mut();
        }
        let node: *mut pg_sys::Param = pg_sys::palloc0(size_of::<pg_sys::Param>()).cast();
        (*node).xpr.type_ = NodeTag::T_Param;
        (*node).paramkind = pg_sys::ParamKind::PARAM_EXTERN;
        (*node).paramid = (*reference).number;
        (*node).paramtype = pg_sys::UNKNOWNOID;
        (*node).paramtypmod = -1;
        (*node).location = (*reference).location;
        node.cast()
    }
}

/// The literal as a value of this type.
///
/// # Safety
/// Called by the parser.
#[pg_guard]
unsafe extern "C-unwind" fn coerced(
    parser: *mut pg_sys::ParseState,
    param: *mut pg_sys::Param,
    target: pg_sys::Oid,
    typmod: i32,
    location: i32,
) -> *mut pg_sys::Node {
    use pg_sys::{CoercionContext, CoercionForm};
    // SAFETY: see above; what is made of the literal are nodes of the parser's.
    unsafe {
        let Some(literal) = literal(parser, (*param).paramid) else { return std::ptr::null_mut() };
        if !runs_nothing(target) {
            let name = CStr::from_ptr(pg_sys::format_type_be(target)).to_string_lossy().into_owned();
            SyncError::new(code::FEATURE_NOT_SUPPORTED, format!("a literal of type {name} cannot be part of this SQL"))
                .detail("Reading it may run checks of domains and other functions, which this SQL must not while it is read.")
                .hint("Write ARRAY[...], ROW(...) or a call of the range's function, with a cast: they are made when the SQL runs.")
                .raise();
        }
        let (context, form) = if literal.cast {
            (CoercionContext::COERCION_EXPLICIT, CoercionForm::COERCE_EXPLICIT_CAST)
        } else {
            (CoercionContext::COERCION_IMPLICIT, CoercionForm::COERCE_IMPLICIT_CAST)
        };
        pg_sys::coerce_type(
            parser,
            unknown(literal).cast(),
            pg_sys::UNKNOWNOID,
            target,
            typmod,
            context,
            form,
            location,
        )
    }
}

/// As the parser has literals whose type is not known (make_const).
///
/// # Safety
/// A literal whose text is there.
unsafe fn unknown(literal: &Literal) -> *mut pg_sys::Const {
    // SAFETY: see above.
    unsafe {
        let value = pg_sys::Datum::from(literal.text);
        let node = pg_sys::makeConst(pg_sys::UNKNOWNOID, -1, pg_sys::InvalidOid, -2, value, false, false);
        (*node).location = literal.location;
        node
    }
}

/// Do the input functions of this type run nothing but the server's code and what superusers have added, whatever else is altered?
///
/// # Safety
/// In a transaction.
pub(super) unsafe fn runs_nothing(type_: pg_sys::Oid) -> bool {
    // SAFETY: look-ups. A domain's base, an array's element and an enum stay what they are for good.
    unsafe {
        let mut type_ = pg_sys::getBaseType(type_);
        loop {
            let element = pg_sys::get_element_type(type_);
            if element == pg_sys::InvalidOid {
                break;
            }
            type_ = element;
        }
        match pg_sys::get_typtype(type_) as u8 {
            // Pseudo-types have no input, or the system's.
            pg_sys::TYPTYPE_BASE | pg_sys::TYPTYPE_ENUM | pg_sys::TYPTYPE_PSEUDO => true,
            pg_sys::TYPTYPE_RANGE | pg_sys::TYPTYPE_MULTIRANGE => type_.to_u32() < pg_sys::FirstNormalObjectId,
            // Composite, or an element that is a domain.
            _ => false,
        }
    }
}

/// Literals that are of no type to the end, as arguments of `format` are: constants again.
///
/// # Safety
/// Called with nodes of an analyzed tree and the list of literals.
#[pg_guard]
unsafe extern "C-unwind" fn put_back(node: *mut pg_sys::Node, state: *mut c_void) -> *mut pg_sys::Node {
    // SAFETY: nodes with these tags are of these types; what is changed is a copy.
    unsafe {
        if node.is_null() {
            return node;
        }
        match (*node).type_ {
            NodeTag::T_Query => query_tree_mutator(node.cast(), put_back, state, 0).cast(),
            NodeTag::T_Param => {
                let literals = &*state.cast::<Vec<Literal>>();
                let number = usize::try_from(-1 - i64::from((*node.cast::<pg_sys::Param>()).paramid));
                match number.ok().and_then(|i| literals.get(i)) {
                    Some(literal) => unknown(literal).cast(),
                    None => expression_tree_mutator(node, put_back, state),
                }
            }
            _ => expression_tree_mutator(node, put_back, state),
        }
    }
}
