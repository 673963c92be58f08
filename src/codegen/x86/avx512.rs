//! How instructions that lowering names by their AVX2 forms are written for vectors of 512 bits.
//!
//! Most have a form with the same operands. In AVX-512 comparisons write mask registers and what has a mask takes it from one, where AVX2 has both in
//! vectors: there the lanes of a vector go to a mask register or come from it beside the instruction itself.

use iced_x86::Code;

/// Some of sixteen bytes, each as a word: the mask and the address. AVX2 has no such instruction, so it goes by this name.
pub const LOAD_BYTES: Code = Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128;

/// Some of sixteen bytes to an address: the mask and the bytes. This one too.
pub const STORE_BYTES: Code = Code::EVEX_Vmovdqu8_xmmm128_k1z_xmm;

/// The lower half of a vector to an address.
pub const STORE_HALF: Code = Code::EVEX_Vmovups_ymmm256_k1z_ymm;

/// The AVX-512 form of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// This instruction, with the same operands.
    Same(Code),
    /// This instruction into a mask register, of which the destination's lanes are made.
    Compare(Code),
    /// This instruction under a mask register, made of the lanes of the operand of that number, which it does not have.
    Masked { code: Code, mask: usize, masking: Masking },
    /// The destination, what lanes without the mask are, what lanes with it are, and the mask.
    Blend,
}

/// What an instruction does where its mask is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// It has no mask.
    None,
    /// It leaves the destination as it is.
    Keep,
    /// It makes the destination 0.
    Zero,
}

/// What a source of a blend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Mask,
    Yes,
    No,
}

/// The table of `mask ? yes : no` for `vpternlogd` with sources of these roles: bit `4a + 2b + c` for the bits a, b, c of the sources.
pub fn choice(roles: [Role; 3]) -> i32 {
    let bit = |row: i32, wanted: Role| {
        let place = roles.iter().position(|role| *role == wanted).expect("each role is there once");
        row >> (2 - place) & 1
    };
    (0..8).map(|row| bit(row, if bit(row, Role::Mask) == 1 { Role::Yes } else { Role::No }) << row).sum()
}

/// Whether the distance in an instruction's address is written in four bytes always. A short one counts bytes where a single byte is moved, but
/// Bochs 2.7, on which tests run this code, multiplies it.
pub fn has_long_distances(code: Code) -> bool {
    matches!(code, Code::EVEX_Vpinsrb_xmm_xmm_r32m8_imm8 | Code::EVEX_Vpextrb_r32m8_xmm_imm8)
}

/// The form of an instruction; those on general registers stay as they are.
pub fn form(code: Code) -> Form {
    Form::Same(match code {
        Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8 => {
            return Form::Compare(Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae);
        }
        Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256 => return Form::Compare(Code::EVEX_Vpcmpeqd_kr_k1_zmm_zmmm512b32),
        Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256 => return Form::Compare(Code::EVEX_Vpcmpgtd_kr_k1_zmm_zmmm512b32),
        Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm => return Form::Blend,
        Code::VEX_Vmaskmovps_ymm_ymm_m256 => {
            let code = Code::EVEX_Vmovups_zmm_k1z_zmmm512;
            return Form::Masked { code, mask: 1, masking: Masking::Zero };
        }
        Code::VEX_Vmaskmovps_m256_ymm_ymm => {
            let code = Code::EVEX_Vmovups_zmmm512_k1z_zmm;
            return Form::Masked { code, mask: 1, masking: Masking::Keep };
        }
        Code::VEX_Vpgatherdd_ymm_vm32y_ymm => {
            let code = Code::EVEX_Vpgatherdd_zmm_k1_vm32z;
            return Form::Masked { code, mask: 2, masking: Masking::Keep };
        }
        LOAD_BYTES => return Form::Masked { code, mask: 1, masking: Masking::Zero },
        STORE_BYTES => return Form::Masked { code, mask: 1, masking: Masking::Keep },
        Code::VEX_Vroundps_ymm_ymmm256_imm8 => Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae,
        Code::VEX_Vextractf128_xmmm128_ymm_imm8 => Code::EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8,
        Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8 => Code::EVEX_Vinsertf32x4_zmm_k1z_zmm_xmmm128_imm8,
        Code::VEX_Vpand_xmm_xmm_xmmm128 => Code::EVEX_Vpandd_xmm_k1z_xmm_xmmm128b32,
        Code::VEX_Vbroadcastss_ymm_m32 | Code::VEX_Vbroadcastss_ymm_xmm => Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32,
        Code::VEX_Vpmovzxbd_ymm_xmmm64 => Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128,
        Code::VEX_Vmovss_xmm_m32 => Code::EVEX_Vmovss_xmm_k1z_m32,
        Code::VEX_Vmovups_xmmm128_xmm => Code::EVEX_Vmovups_xmmm128_k1z_xmm,
        Code::VEX_Vaddps_ymm_ymm_ymmm256 => Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vandnps_ymm_ymm_ymmm256 => Code::EVEX_Vandnps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vandps_ymm_ymm_ymmm256 => Code::EVEX_Vandps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vcvtdq2ps_ymm_ymmm256 => Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er,
        Code::VEX_Vcvttps2dq_ymm_ymmm256 => Code::EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae,
        Code::VEX_Vdivps_ymm_ymm_ymmm256 => Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vextractps_rm32_xmm_imm8 => Code::EVEX_Vextractps_rm32_xmm_imm8,
        Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256 => Code::EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256 => Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256 => Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8 => Code::EVEX_Vinsertps_xmm_xmm_xmmm32_imm8,
        Code::VEX_Vmaxps_ymm_ymm_ymmm256 => Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae,
        Code::VEX_Vminps_ymm_ymm_ymmm256 => Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae,
        Code::VEX_Vmovaps_ymm_ymmm256 => Code::EVEX_Vmovaps_zmm_k1z_zmmm512,
        Code::VEX_Vmovd_rm32_xmm => Code::EVEX_Vmovd_rm32_xmm,
        Code::VEX_Vmovd_xmm_rm32 => Code::EVEX_Vmovd_xmm_rm32,
        Code::VEX_Vmovq_xmm_xmmm64 => Code::EVEX_Vmovq_xmm_xmmm64,
        Code::VEX_Vmovq_xmmm64_xmm => Code::EVEX_Vmovq_xmmm64_xmm,
        Code::VEX_Vmovups_xmm_xmmm128 => Code::EVEX_Vmovups_xmm_k1z_xmmm128,
        Code::VEX_Vmovups_ymm_ymmm256 => Code::EVEX_Vmovups_zmm_k1z_zmmm512,
        Code::VEX_Vmovups_ymmm256_ymm => Code::EVEX_Vmovups_zmmm512_k1z_zmm,
        Code::VEX_Vmulps_ymm_ymm_ymmm256 => Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vorps_ymm_ymm_ymmm256 => Code::EVEX_Vorps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpabsd_ymm_ymmm256 => Code::EVEX_Vpabsd_zmm_k1z_zmmm512b32,
        Code::VEX_Vpaddd_ymm_ymm_ymmm256 => Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpbroadcastd_ymm_xmmm32 => Code::EVEX_Vpbroadcastd_zmm_k1z_xmmm32,
        Code::VEX_Vpermilps_xmm_xmmm128_imm8 => Code::EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8,
        Code::VEX_Vpermilps_ymm_ymm_ymmm256 => Code::EVEX_Vpermilps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpermilps_ymm_ymmm256_imm8 => Code::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8,
        Code::VEX_Vpextrb_r32m8_xmm_imm8 => Code::EVEX_Vpextrb_r32m8_xmm_imm8,
        Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8 => Code::EVEX_Vpinsrb_xmm_xmm_r32m8_imm8,
        Code::VEX_Vpmaxsd_ymm_ymm_ymmm256 => Code::EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpmaxud_ymm_ymm_ymmm256 => Code::EVEX_Vpmaxud_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpminsd_ymm_ymm_ymmm256 => Code::EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpminud_ymm_ymm_ymmm256 => Code::EVEX_Vpminud_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpmuldq_ymm_ymm_ymmm256 => Code::EVEX_Vpmuldq_zmm_k1z_zmm_zmmm512b64,
        Code::VEX_Vpmulld_ymm_ymm_ymmm256 => Code::EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpmuludq_ymm_ymm_ymmm256 => Code::EVEX_Vpmuludq_zmm_k1z_zmm_zmmm512b64,
        Code::VEX_Vpslld_ymm_ymm_imm8 => Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8,
        Code::VEX_Vpsllvd_ymm_ymm_ymmm256 => Code::EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpsrad_ymm_ymm_imm8 => Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8,
        Code::VEX_Vpsravd_ymm_ymm_ymmm256 => Code::EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpsrld_ymm_ymm_imm8 => Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8,
        Code::VEX_Vpsrlq_ymm_ymm_imm8 => Code::EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8,
        Code::VEX_Vpsrlvd_ymm_ymm_ymmm256 => Code::EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpsubd_ymm_ymm_ymmm256 => Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vsqrtps_ymm_ymmm256 => Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er,
        Code::VEX_Vsubps_ymm_ymm_ymmm256 => Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vunpckhpd_ymm_ymm_ymmm256 => Code::EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64,
        Code::VEX_Vunpckhps_ymm_ymm_ymmm256 => Code::EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vunpcklpd_ymm_ymm_ymmm256 => Code::EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64,
        Code::VEX_Vunpcklps_ymm_ymm_ymmm256 => Code::EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vxorps_ymm_ymm_ymmm256 => Code::EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32,
        other => other,
    })
}
